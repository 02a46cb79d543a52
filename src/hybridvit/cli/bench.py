"""hybridvit bench: how fast models are, beside others."""

import argparse
from pathlib import Path

from hybridvit.cli.options import add, chosen
from hybridvit.deploy.formats import ENGINES
from hybridvit.output import to_json

HELP = """Time models with random weights, taking turns in one process. Ratios refer to the first model of the list,
on the same engine and in the same rounds; share is of what a large matrix product reaches here; memory is what
weights and a batch take at most, measured in processes of their own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    ours, engines = ["cvt_13", "cmt_s"], f"{', '.join(ENGINES)} (default: eager fused)"
    add(parser, "models", metavar="MODEL", nargs="*", default=ours, help="our models")
    add(parser, "--against", metavar="NAME", nargs="+", default=["resnet50"], help="timm's models, first; or none")
    parser.add_argument("--engine", metavar="NAME", nargs="+", default=["eager", "fused"], help=engines)
    add(parser, "--batch-size", "--image-size")
    add(parser, "--train", action="store_true", help="forward, backward and a step of SGD, eager")
    add(parser, "--rounds")
    add(parser, "--plot", metavar="FILE", type=Path, help="also draw published accuracy against time, as .png or .svg")
    add(parser, "--memory", action=argparse.BooleanOptionalAction, default=True, help="also measure memory")
    add(parser, "--json")


def run(args: argparse.Namespace) -> int:
    import sys

    from hybridvit.cli.table import show
    from hybridvit.deploy import bench
    from hybridvit.deploy.bench_plot import check_plot, plot

    names = [*([] if args.against == ["none"] else args.against), *args.models]
    if args.plot:
        check_plot(names)
    how = chosen(args, "batch_size", "train", "rounds")
    timings = bench.bench(
        names,
        engine_names=["eager"] if args.train else args.engine,
        image_size=(args.image_size, args.image_size) if args.image_size else None,
        with_memory=args.memory,
        on_ready=lambda name, engine: print(f"ready: {name}, {engine}", file=sys.stderr),
        **how,
    )
    if args.plot:
        plot(timings, args.plot, unit="batch" if args.batch_size > 1 else "picture")
    if args.json:
        print(to_json({**bench.machine(), **how, "timings": [timing.to_dict() for timing in timings]}))
    else:
        show(bench.table(timings, batch_size=args.batch_size))
    return 0
