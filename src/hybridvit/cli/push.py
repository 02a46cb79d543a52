"""hybridvit push: a checkpoint on the Hugging Face hub."""

import argparse

from hybridvit.cli.options import add, chosen

HELP = """Put a checkpoint on the Hugging Face hub: safetensors, timm's config.json, and a card of what the checkpoint knows
(architecture, classes, preprocessing, recipe, metrics). --dry-run shows the card and sends nothing. A card that
lies there already stays. Log in with `hf auth login`, or set HF_TOKEN."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "checkpoint", type=str, help="any weights file that hybridvit opens")
    add(parser, "repository", metavar="OWNER/NAME", help="made if it is not there")
    what = "as the hub spells it: apache-2.0, mit, other; asked for, never guessed"
    add(parser, "--licence", metavar="NAME", help=what)
    add(parser, "--base-model", metavar="OWNER/NAME", help="the repository that training began from")
    add(parser, "--dataset", metavar="NAME", help="what the metrics were measured on")
    add(parser, "--private", action="store_true", help="for those only whom the owner lets in")
    add(parser, "--dry-run", action="store_true", help="show the card, send nothing")


def run(args: argparse.Namespace) -> int:
    from hybridvit.weights.hub import push_to_hub

    how = chosen(args, "licence", "base_model", "dataset", "private", "dry_run")
    card = push_to_hub(args.checkpoint, args.repository, **how)
    print(card if args.dry_run else f"Pushed to {args.repository}. Open it: hybridvit.load('hf://{args.repository}')")
    return 0
