"""hybridvit bench: how fast models are, beside others."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybridvit.deploy.bench import Timing

HELP = (
    "Time models with random weights, taking turns in one process. Ratios refer to the first model of the list, on the same "
    "engine and in the same rounds; share is of what a large matrix product reaches here."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models", metavar="MODEL", nargs="*", default=["cvt_13", "cmt_s"], help="our models (default: cvt_13 cmt_s)"
    )
    parser.add_argument(
        "--against",
        metavar="NAME",
        nargs="+",
        default=["resnet50"],
        help="timm's models, first; none (default: resnet50)",
    )
    parser.add_argument(
        "--engine", metavar="NAME", nargs="+", default=["eager", "fused"], help="eager, fused, compiled, onnx, openvino"
    )
    parser.add_argument("--batch-size", metavar="N", type=int, default=1, help="pictures at a time (default: 1)")
    parser.add_argument("--image-size", metavar="N", type=int, default=224, help="pixels (default: 224)")
    parser.add_argument("--train", action="store_true", help="forward, backward and a step of SGD, eager")
    parser.add_argument("--rounds", metavar="N", type=int, default=10, help="turns of each model (default: 10)")
    parser.add_argument(
        "--plot", metavar="FILE", type=Path, help="also draw published accuracy against time, as .png or .svg"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    import sys

    from hybridvit.deploy import bench
    from hybridvit.errors import ConfigError

    if args.rounds < 2 or args.batch_size < 1:
        raise ConfigError("--rounds must be at least 2, and --batch-size at least 1.")
    names = [*([] if args.against == ["none"] else args.against), *args.models]
    if args.plot and not any(bench.published_top1(name) for name in names):
        raise ConfigError("--plot draws published accuracies, and none of these models has one.")
    timings = bench.run(
        names,
        engine_names=["eager"] if args.train else args.engine,
        batch_size=args.batch_size,
        image_size=(args.image_size, args.image_size),
        train=args.train,
        rounds=args.rounds,
        on_ready=lambda name, engine: print(f"ready: {name}, {engine}", file=sys.stderr),
    )
    if args.plot:
        plot(timings, args.plot)
    if args.json:
        what = {
            "batch_size": args.batch_size,
            "image_size": args.image_size,
            "train": args.train,
            "rounds": args.rounds,
        }
        print(json.dumps({**bench.machine(), **what, "timings": [timing.to_dict() for timing in timings]}, indent=2))
        return 0
    from hybridvit.cli.table import show

    show(
        ["model", "engine", "GMACs", "ms", "middle half", "ratio", "pictures/s", "share %"],
        [
            [
                timing.model,
                timing.engine,
                f"{timing.gmacs:.2f}",
                f"{timing.milliseconds:.1f}",
                f"{timing.spread[0]:.1f} to {timing.spread[1]:.1f}",
                f"{timing.ratio:.2f}",
                f"{1000 * args.batch_size / timing.milliseconds:.1f}",
                f"{100 * timing.peak_share:.0f}",
            ]
            for timing in timings
        ],
    )
    return 0


def plot(timings: list["Timing"], path: Path) -> None:
    """Published top-1 against time, one colour per engine."""
    from hybridvit.errors import ConfigError

    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("--plot takes matplotlib: pip install 'hybridvit[viz]'") from error
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    shown = [(timing, timing.top1) for timing in timings if timing.top1 is not None]
    for engine in dict.fromkeys(timing.engine for timing, _ in shown):
        points = [(timing, top1) for timing, top1 in shown if timing.engine == engine]
        axes.scatter([timing.milliseconds for timing, _ in points], [top1 for _, top1 in points], label=engine)
        for timing, top1 in points:
            axes.annotate(timing.model, (timing.milliseconds, top1), xytext=(4, 3), textcoords="offset points", size=8)
    axes.set(xlabel="milliseconds per batch", ylabel="published ImageNet-1k top-1, %")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
