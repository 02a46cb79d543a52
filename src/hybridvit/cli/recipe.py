"""hybridvit recipe import: the original repositories' recipes as ours."""

import argparse
from pathlib import Path

HELP = (
    "Read a recipe of microsoft/CvT or PaddleViT with its command-line overrides, write it as ours, and list what has no "
    "effect in the original code or no equivalent here."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    importing = actions.add_parser("import", help="read a yacs file", description=HELP)
    importing.add_argument("file", metavar="FILE.yaml", type=Path)
    importing.add_argument("overrides", metavar="KEY VALUE", nargs="*", help="as given to the original: TRAIN.LR 0.1")
    importing.add_argument("--gpus", metavar="N", type=int, default=8, help="devices of the original run (default: 8)")
    importing.add_argument("--out", metavar="FILE", type=Path, help="default: FILE-imported.yaml in this folder")


def run(args: argparse.Namespace) -> int:
    from hybridvit.files import replacing
    from hybridvit.train.yacs import import_yacs

    imported = import_yacs(args.file, args.overrides, gpus=args.gpus)
    out = args.out or Path(f"{args.file.stem}-imported.yaml")
    notes = [
        ("Without effect in the original code", imported.without_effect),
        ("No equivalent here", imported.no_equivalent),
    ]
    header = [f"# Imported from {imported.origin}, {args.file.name}, as a run on {args.gpus} devices."]
    for title, keys in notes:
        header += [f"# {title}:", *(f"#   {key}" for key in keys)] if keys else []
    with replacing(out) as temporary:
        temporary.write_text("\n".join(header) + "\n" + imported.recipe.to_yaml(), encoding="utf-8")
    for title, keys in notes:
        if keys:
            print(f"{title}:", *keys, sep="\n  ")
    print(f"Wrote {out}. Train it with `hybridvit train {out} --data DIR`; see it with --print.")
    return 0
