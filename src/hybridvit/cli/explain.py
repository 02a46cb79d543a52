"""hybridvit explain: maps of what a checkpoint looks at, laid on pictures."""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from hybridvit.attribution.explanation import Explanation
    from hybridvit.data.source import Source

METHODS = ("attention", "rollout", "gradcam", "gradients", "occlusion")
HELP = (
    "Draw what CHECKPOINT looks at in pictures, or in all pictures below a folder. attention: the weights of one block; rollout: "
    "attention followed through all blocks; gradcam, gradients, occlusion: what speaks for a class."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="a .safetensors file of `hybridvit train`")
    parser.add_argument(
        "pictures", metavar="IMAGE|DIR|FILE", nargs="+", type=Path, help="pictures; folders, lists, .zip, .tar of them"
    )
    parser.add_argument(
        "--root", metavar="DIR", type=Path, help="where the paths of a list file start (default: beside it)"
    )
    parser.add_argument(
        "--method", choices=METHODS, nargs="+", default=["attention"], help="several are drawn side by side"
    )
    parser.add_argument(
        "--query",
        metavar=("X", "Y"),
        nargs=2,
        type=float,
        help="what this pixel reads (attention, rollout); otherwise what the class token reads, or all places on average",
    )
    parser.add_argument("--stage", metavar="S", type=int, help="attention, gradcam: from 0 (default: the last)")
    parser.add_argument("--block", metavar="B", type=int, help="attention: from 0 (default: the stage's last)")
    parser.add_argument("--head", metavar="H", type=int, help="attention: from 0 (default: the mean of all)")
    parser.add_argument(
        "--class",
        metavar="NAME",
        dest="label",
        help="gradcam, gradients, occlusion: name or number (default: the answer)",
    )
    extra = parser.add_mutually_exclusive_group()
    extra.add_argument("--heads", action="store_true", help="draw every head of the block")
    extra.add_argument("--stages", action="store_true", help="draw every stage, side by side")
    extra.add_argument("--compare", metavar="CHECKPOINT", type=Path, help="draw a second model beside the first")
    parser.add_argument("--arrays", action="store_true", help="also write the maps, on the picture's pixels, as .npz")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("explanations"), help="default: explanations")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: the best there is)")


def run(args: argparse.Namespace) -> int:
    from hybridvit.data.loose import open_loose
    from hybridvit.errors import ConfigError
    from hybridvit.runtime import pick_device
    from hybridvit.weights import checkpoint

    if len(args.method) > 1 and (args.heads or args.stages or args.compare):
        raise ConfigError("--heads, --stages and --compare draw one method; choose one with --method.")
    device = pick_device(args.device)
    models = {path: checkpoint.load(path, device=device) for path in (args.checkpoint, args.compare) if path}
    pictures = open_loose(args.pictures, root=args.root)
    stems = [Path(pictures.name(number)).stem for number in range(len(pictures))]
    for number, name in enumerate(_distinct(stems)):
        kind, figure, explanations = _draw(args, models, pictures, number)
        file = args.out / f"{name}-{kind}.png"
        _save(file, partial(figure.savefig, format="png"))
        answer, share = explanations[0].top(1)[0]
        print(f"{file}  {answer} {100 * share:.1f} %")
        if args.arrays:
            _save_arrays(args.out / f"{name}-{kind}.npz", explanations)
    return 0


def _draw(
    args: argparse.Namespace, models: dict[Path, Any], pictures: "Source", number: int
) -> "tuple[str, Figure, list[Explanation]]":
    """What the file is called after, its figure, and what was computed for it."""
    from hybridvit.attribution.draw import head_grid, overlay, side_by_side
    from hybridvit.attribution.explain import explain, options_of, preprocess_of

    first = models[args.checkpoint]
    picture = _picture(pictures, number, channels=preprocess_of(first).in_chans)
    given = {name: getattr(args, name) for name in ("query", "stage", "block", "head", "label")}

    def explanation(method: str, model: Any = first, **changes: Any) -> "Explanation":
        # With several methods each takes what it knows; with one, what it does not know is an error.
        takes = options_of(method) if len(args.method) > 1 else given.keys()
        options = {name: value for name, value in given.items() if name in takes}
        return explain(model, picture, method=method, **options | changes)  # type: ignore[arg-type]

    method = args.method[0]
    if len(args.method) > 1:
        several = [explanation(each) for each in args.method]
        return "methods", side_by_side(several), several
    if args.compare:
        several = [explanation(method, model) for model in models.values()]
        return f"{method}-compare", side_by_side(several, titles=list(_distinct([p.stem for p in models]))), several
    if args.stages:
        several = [explanation(method, stage=stage) for stage in range(len(first.stages))]
        return f"{method}-stages", side_by_side(several), several
    one = explanation(method)
    return (f"{method}-heads", head_grid(one), [one]) if args.heads else (method, overlay(one), [one])


def _picture(pictures: "Source", number: int, *, channels: int) -> "Image":
    from hybridvit.data.decode import decode
    from hybridvit.errors import DataError

    name = pictures.name(number)
    try:
        data = pictures.read(number)
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}.") from error
    return decode(data, name=name, channels=channels)


def _distinct(names: list[str]) -> Iterator[str]:
    """The same name a second time gets a number."""
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name}-{seen[name]}"


def _save_arrays(path: Path, explanations: "list[Explanation]") -> None:
    import numpy as np

    arrays: dict[str, Any] = {"titles": np.array([each.title for each in explanations])}
    for number, each in enumerate(explanations):
        arrays[f"heat_{number}"] = each.heat
    _save(path, lambda stream: np.savez(stream, **arrays))


def _save(path: Path, write: Callable[[BinaryIO], object]) -> None:
    from hybridvit.errors import DataError
    from hybridvit.files import replacing

    try:
        with replacing(path) as temporary, temporary.open("wb") as stream:
            write(stream)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}") from error
