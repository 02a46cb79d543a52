"""hybridvit models: every architecture there is, and its published weights."""

import argparse
from dataclasses import asdict

from hybridvit.cli.options import add
from hybridvit.output import to_json

HELP = """List the architectures: size of the pictures they are published for, parameters (with 1000 classes),
multiply-accumulates, published ImageNet-1k top-1, source; and the published weights of each."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "pattern", metavar="PATTERN", nargs="?", default="*", help="only these names: 'cmt_*'")
    kinds, what = ("classification", "detection", "segmentation"), "or the detectors, or segmenters, that stand on them"
    add(parser, "--task", choices=kinds, default="classification", help=what)
    add(parser, "--json")


def run(args: argparse.Namespace) -> int:
    from fnmatch import fnmatch

    from hybridvit.cli.table import show
    from hybridvit.errors import ConfigError
    from hybridvit.models.catalog import ARCHITECTURES
    from hybridvit.weights.published import WEIGHTS

    if args.task != "classification":
        return _list_heads(args.pattern, args.task, as_json=args.json)
    chosen = {name: entry for name, entry in ARCHITECTURES.items() if fnmatch(name, args.pattern)}
    weights = {name: entry for name, entry in WEIGHTS.items() if name.partition(".")[0] in chosen}
    if not chosen:
        raise ConfigError(f"No model's name matches {args.pattern!r}. `hybridvit models` lists all.")
    if args.json:
        listing = {
            "architectures": {name: asdict(entry) for name, entry in chosen.items()},
            "weights": {name: asdict(entry) for name, entry in weights.items()},
        }
        print(to_json(listing))
        return 0
    show(
        ["name", "pixels", "parameters M", "MACs G", "top-1 %", "source"],
        [
            [name, _pixels(e.preprocess.image_size), f"{e.params / 1e6:.2f}", e.gmacs, e.top1, e.source]
            for name, e in chosen.items()
        ],
    )
    notes = [f"  {name}: {entry.note}" for name, entry in chosen.items() if entry.note]
    print(*(["\n" + "\n".join(notes)] if notes else []), *([""] if weights else []), sep="\n")
    if weights:
        show(
            ["published weights", "pixels", "top-1 %", "licence", "where"],
            [
                [
                    name,
                    _pixels(e.preprocess.image_size),
                    e.top1,
                    e.licence,
                    e.hub_id or e.url or f"by hand: {e.by_hand}",
                ]
                for name, e in weights.items()
            ],
        )
    return 0


def _list_heads(pattern: str, task: str, *, as_json: bool) -> int:
    from fnmatch import fnmatch

    from hybridvit.errors import ConfigError
    from hybridvit.models.heads import assembly

    chosen = [name for name in assembly.names(task) if fnmatch(name, pattern)]
    if not chosen:
        raise ConfigError(f"No name of a {task} model matches {pattern!r}. `hybridvit models --task {task}` lists all.")
    if as_json:
        print(to_json(chosen))
        return 0
    heads = ", ".join(f"{head}.timm/MODEL" for head in assembly.HEADS if assembly.HEADS[head].task == task)
    print("\n".join(chosen) + f"\n\nOn any of timm's models that has features: {heads}.")
    return 0


def _pixels(size: tuple[int, int]) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]} x {size[1]}"
