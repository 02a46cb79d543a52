"""hybridvit align: where two models part, layer by layer, forwards and backwards."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from hybridvit.weights.align import Alignment

HELP = """Run two checkpoints, ours or published ones, on the same pictures and show where they part: in their weights, in each
layer's output in evaluation and in training mode, in each parameter's gradient. B (or A) may be golden answers: NAME.json with
NAME.npz beside it. The exit code is 0 when nothing parts, 1 when something does."""
MOST_PICTURES = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", type=Path, help="a checkpoint")
    parser.add_argument("b", metavar="B", type=Path, help="another, or golden answers (.json)")
    parser.add_argument(
        "--images", metavar="DIR", type=Path, help=f"run on the first {MOST_PICTURES} pictures in DIR (default: noise)"
    )
    parser.add_argument("--dtype", choices=["float64", "float32"], default="float64")
    parser.add_argument(
        "--tolerance", metavar="T", type=float, help="largest relative difference (default: 1e-9; in float32 1e-4)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, every tensor included")


def run(args: argparse.Namespace) -> int:
    alignment = _align(args)
    if args.json:
        print(json.dumps(alignment.to_dict(), indent=2))
    else:
        _show(alignment)
    return 0 if alignment.aligned else 1


def _align(args: argparse.Namespace) -> "Alignment":
    import torch

    from hybridvit.errors import ConfigError
    from hybridvit.weights import checkpoint, golden
    from hybridvit.weights.align import Side, align

    dtype = getattr(torch, args.dtype)
    files = sorted((args.a, args.b), key=lambda path: path.suffix == ".json")
    if files[1].suffix == ".json":
        if files[0].suffix == ".json" or args.images:
            raise ConfigError(
                "Golden answers come with pictures of their own and are compared with a checkpoint, nothing else."
            )
        answers = golden.read(files[1])
        return golden.align_with_golden(
            str(files[0]), checkpoint.load(files[0]), answers, dtype=dtype, tolerance=args.tolerance
        )
    models: list[Any] = [checkpoint.load(file) for file in files]
    if models[0].in_chans != models[1].in_chans:
        raise ConfigError(f"{files[0]} takes {models[0].in_chans} channels, {files[1]} {models[1].in_chans}.")
    a, b = (Side(name=f"{file} ({model.architecture})", model=model) for file, model in zip(files, models, strict=True))
    return align(a, b, _pictures(args.images, models[0]).to(dtype), tolerance=args.tolerance)


def _pictures(folder: Path | None, model: Any) -> "Tensor":
    import torch

    if folder is None:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(2, model.in_chans, *model.preprocess.image_size, generator=generator, dtype=torch.float64)
    from hybridvit.data.decode import decode
    from hybridvit.data.loose import list_pictures
    from hybridvit.data.transforms import eval_transform

    transform = eval_transform(model.preprocess)
    files = list_pictures([folder])[:MOST_PICTURES]
    return torch.stack(
        [transform(decode(file.read_bytes(), name=str(file), channels=model.in_chans)) for file in files]
    )


def _show(alignment: "Alignment") -> None:
    from hybridvit.cli.table import show
    from hybridvit.weights.align import PHASES

    layers: dict[str, dict[str, float | None]] = {}
    parts: dict[str, list[str]] = {}
    order = sorted(
        alignment.rows, key=lambda row: ("eval", "train").index(row.phase) if row.phase in ("eval", "train") else 2
    )
    for row in order:
        cells = layers.setdefault(row.layer, {})
        # Of a layer's own output, that; of its weights and gradients, the worst.
        if row.name == row.layer or row.phase in ("weights", "gradient"):
            worst = cells.get(row.phase, 0.0)
            cells[row.phase] = None if worst is None or row.difference is None else max(worst, row.difference)
        if row.parts and row.phase not in parts.setdefault(row.layer, []):
            parts[row.layer].append(row.phase)
    show(
        ["layer", *PHASES, "parts in"],
        [
            [
                layer,
                *(_cell(cells, phase) for phase in PHASES),
                ", ".join(p for p in PHASES if p in parts.get(layer, ())),
            ]
            for layer, cells in layers.items()
        ],
        title=f"A: {alignment.a}\nB: {alignment.b}\nOn {alignment.input}.\n"
        f"Relative differences above {alignment.tolerance:.0e} part.",
    )
    for name, only in (("A", alignment.only_a), ("B", alignment.only_b)):
        if only:
            print(f"Only in {name}: {', '.join(only[:5])}{f' and {len(only) - 5} more' if len(only) > 5 else ''}")
    print("\n".join(alignment.summary()))


def _cell(cells: dict[str, float | None], phase: str) -> str:
    if phase not in cells:
        return ""
    difference = cells[phase]
    return "differs" if difference is None else f"{difference:.1e}" if difference else "0"
