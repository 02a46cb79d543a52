"""hybridvit recipes: what can be trained, on whose word, at what cost; and the original repositories' recipes as ours."""

import argparse
import shlex
import sys
from pathlib import Path

from hybridvit.cli.options import add, refuse
from hybridvit.errors import ConfigError
from hybridvit.output import Table, to_json

HELP = """List the training recipes: their model, source, cost and status. `recipes import FILE.yaml` reads a recipe
of microsoft/CvT or PaddleViT with its command-line overrides, writes it as ours, and lists what has no effect in the
original code or no equivalent here."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "action", nargs="?", choices=["import"], help="read a yacs file; without it, recipes are listed")
    add(parser, "file", metavar="FILE.yaml", type=Path, nargs="?", help="of the original repository")
    add(parser, "overrides", metavar="KEY VALUE", nargs="*", help="as given to the original: TRAIN.LR 0.1")
    add(parser, "--gpus", default=None, help="devices of the original run (default: 8)")
    add(parser, "--out", metavar="FILE", type=Path, help="default: FILE-imported.yaml in this folder")
    add(parser, "--json")


def run(args: argparse.Namespace) -> int:
    from hybridvit.cli.table import show
    from hybridvit.config import list_recipes, load_recipe
    from hybridvit.training.yacs_file import import_to

    if args.action:
        if args.file is None:
            raise ConfigError("FILE.yaml is missing: the recipe to import.")
        out = args.out or Path(f"{args.file.stem}-imported.yaml")
        for title, keys in import_to(args.file, out, args.overrides, gpus=args.gpus or 8).items():
            if keys:
                print(f"{title}:", *keys, sep="\n  ")
        print(f"Wrote {out}. Train it with `hybridvit train {shlex.quote(str(out))} --data DIR`; see it with --print.")
        return 0
    refuse(args, "--gpus", "--out", because="they go with `recipes import`")
    recipes = {name: load_recipe(name) for name in list_recipes()}
    rows = [(name, one.model.name, one.about.title, one.about.cost, one.about.status) for name, one in recipes.items()]
    if args.json:
        print(to_json({name: recipe.to_dict() for name, recipe in recipes.items()}))
    elif sys.stdout.isatty():
        show(Table(["recipe", "model", "what", "cost", "status"], rows))
    else:
        print(*("\t".join(row) for row in rows), sep="\n")
    return 0
