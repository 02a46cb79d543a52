"""hybridvit bench: how fast models are, beside others."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybridvit.deploy.bench import Timing

HELP = (
    "Time models with random weights, taking turns in one process. Ratios refer to the first model of the list, on the same "
    "engine and in the same rounds; share is of what a large matrix product reaches here; memory is what weights and a batch "
    "take at most, measured in processes of their own."
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
    parser.add_argument(
        "--image-size", metavar="N", type=int, help="pixels (default: what a model's accuracy was published for)"
    )
    parser.add_argument("--train", action="store_true", help="forward, backward and a step of SGD, eager")
    parser.add_argument("--rounds", metavar="N", type=int, default=10, help="turns of each model (default: 10)")
    parser.add_argument(
        "--plot", metavar="FILE", type=Path, help="also draw published accuracy against time, as .png or .svg"
    )
    parser.add_argument(
        "--memory", action=argparse.BooleanOptionalAction, default=True, help="also measure memory (default: yes)"
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
        image_size=(args.image_size, args.image_size) if args.image_size else None,
        train=args.train,
        rounds=args.rounds,
        with_memory=args.memory,
        on_ready=lambda name, engine: print(f"ready: {name}, {engine}", file=sys.stderr),
    )
    if args.plot:
        plot(timings, args.plot, unit="batch" if args.batch_size > 1 else "picture")
    if args.json:
        what = {
            "batch_size": args.batch_size,
            "train": args.train,
            "rounds": args.rounds,
        }
        print(json.dumps({**bench.machine(), **what, "timings": [timing.to_dict() for timing in timings]}, indent=2))
        return 0
    from hybridvit.cli.table import show

    show(
        ["model", "engine", "pixels", "GMACs", "ms", "middle half", "ratio", "pictures/s", "share %", "MiB"],
        [
            [
                timing.model,
                timing.engine,
                f"{timing.image_size[0]}",
                f"{timing.gmacs:.2f}",
                f"{timing.milliseconds:.1f}",
                f"{timing.spread[0]:.1f} to {timing.spread[1]:.1f}",
                f"{timing.ratio:.2f}",
                f"{1000 * args.batch_size / timing.milliseconds:.1f}",
                f"{100 * timing.peak_share:.0f}",
                "" if timing.peak_mib is None else f"{timing.peak_mib:.0f}",
            ]
            for timing in timings
        ],
    )
    return 0


def plot(timings: list["Timing"], path: Path, *, unit: str = "batch") -> None:
    """Published top-1 against time: a panel per engine, our models in colour, the others in grey."""
    from hybridvit.errors import ConfigError
    from hybridvit.models import catalog

    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("--plot takes matplotlib: pip install 'hybridvit[viz]'") from error
    shown = [(timing, timing.top1) for timing in timings if timing.top1 is not None]
    shown.sort(key=lambda one: one[1])
    engines = list(dict.fromkeys(timing.engine for timing in timings))
    figure = Figure(figsize=(1 + 5.5 * len(engines), 5.5), layout="constrained")
    panels = figure.subplots(1, len(engines), sharey=True, squeeze=False)[0]
    for axes, engine in zip(panels, engines, strict=True):
        # Our names stand on the left, the others' on the right, those of neighbours above and below.
        for number, (timing, top1) in enumerate(one for one in shown if one[0].engine == engine):
            ours = timing.model in catalog.ARCHITECTURES
            color, side = ("tab:blue", "right") if ours else ("dimgray", "left")
            axes.plot(timing.spread, (top1, top1), color=color, alpha=0.35)
            axes.plot(timing.milliseconds, top1, "o", color=color)
            axes.annotate(
                timing.model.removesuffix("_patch4_window7_224"),
                (timing.milliseconds, top1),
                xytext=(-7 if ours else 7, 3 if ours or number % 2 else -10),
                textcoords="offset points",
                horizontalalignment=side,
                size=8,
                color=color,
            )
        axes.set_xlim(left=0, right=1.3 * axes.get_xlim()[1])
        axes.grid(alpha=0.3)
        axes.set(title=engine, xlabel=f"milliseconds per {unit}")
    panels[0].set_ylabel("published ImageNet-1k top-1, %")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
