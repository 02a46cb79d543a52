"""Options that several commands share, and every option that is a number, with its range: see NUMBERS and SHARED."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridvit.errors import ConfigError

METHODS = ("attention", "rollout", "gradcam", "gradients", "occlusion")  # explain's; not imported for --help


@dataclass(frozen=True)
class Number:
    """Text becomes a number within a range, whose upper end a whole number may reach and another may not."""

    kind: type[int] | type[float]
    least: float
    most: float

    def __call__(self, text: str) -> float:
        try:
            value = self.kind(text)
        except (ValueError, OverflowError):
            value = float("nan")
        if not (self.least <= value <= self.most and (self.kind is int or value < self.most)):
            raise argparse.ArgumentTypeError(f"expected {self}, found {text[:40]!r}")
        return value

    def __str__(self) -> str:
        what, end = ("a whole number", "to") if self.kind is int else ("a number", "to below")
        return f"{what} from {self.least:g} {end} {self.most:.10g}"


COUNT = Number(int, 1, 10**9)
FROM_0 = Number(int, 0, 10**9)
SHARE = Number(float, 0, 1)
PIXELS = Number(float, -1e9, 1e9)

NUMBERS: dict[str, tuple[Number, str, Any, str]] = {
    "--actors": (COUNT, "N", None, "with --on ray: processes that compute"),
    "--batch": (COUNT, "N", 64, "pictures at a time"),
    "--batch-size": (COUNT, "N", 1, "pictures at a time"),
    "--block": (FROM_0, "B", None, "attention: from 0 (default: the stage's last)"),
    "--crops": (Number(int, 1, 5), "N", 1, "5: also the corners, averaged"),
    "--gpus": (COUNT, "N", 8, "devices of the original run"),
    "--gpus-per-actor": (Number(float, 0, 1025), "X", None, "with --on ray: 0.5 puts two on a GPU"),
    "--head": (FROM_0, "H", None, "attention: from 0 (default: the mean of all)"),
    "--image-size": (COUNT, "N", None, "pixels (default: what the model was made for)"),
    "--in-chans": (COUNT, "N", None, "another number of input channels"),
    "--max-megabytes": (Number(float, 0.001, 2000), "N", 20.0, "of one upload"),
    "--max-megapixels": (Number(float, 0.001, 2000), "N", 40.0, "of one picture"),
    "--max-pictures": (COUNT, "N", 256, "use so many of them, evenly chosen"),
    "--min-side": (FROM_0, "N", 32, "smaller pictures are tiny"),
    "--num-classes": (FROM_0, "N", None, "another number of classes; needs --new-head"),
    "--overlap": (Number(float, 0, 0.9), "SHARE", 0.2, "how much of its side a tile shares with the next"),
    "--pictures": (FROM_0, "N", 6, "best, worst, doubtful each"),
    "--piece-size": (COUNT, "N", None, "pictures of a piece (default: 1000); a tar file is always one"),
    "--port": (Number(int, 0, 65535), "N", 8000, "0 takes a free one"),
    "--query": (PIXELS, "X Y", None, "what this pixel reads (attention, rollout); otherwise the class token, or all"),
    "--rounds": (Number(int, 2, 10**6), "N", 10, "turns of each model"),
    "--seed": (Number(int, 0, 2**63 - 1), "N", 0, "of all that is drawn"),
    "--stage": (FROM_0, "S", None, "attention, gradcam: from 0 (default: the last)"),
    "--tile": (Number(int, 32, 10**9), "PIXELS", None, "of a detector: cut large pictures into tiles of this side"),
    "--tolerance": (Number(float, 0, 1e9), "T", None, "largest relative difference (default: 1e-9; in float32 1e-4)"),
    "--top-k": (COUNT, "K", 3, "classes per picture"),
    "--val-split": (
        SHARE,
        "SHARE",
        0.0,
        "a data set without a test part is evaluated on this share, held out in training",
    ),
    "--workers": (Number(int, 0, 1024), "N", 2, "processes that decode"),
}
SHARED: dict[str, dict[str, Any]] = {
    "checkpoint": {"metavar": "CHECKPOINT", "type": Path, "help": "a .safetensors file of `hybridvit train`"},
    "pictures": {
        "metavar": "IMAGE|DIR|FILE",
        "nargs": "+",
        "type": Path,
        "help": "files; folders, lists, .zip, .tar of them",
    },
    "--architecture": {"metavar": "NAME", "help": "for files with our own names, which do not tell it"},
    "--columns": {
        "metavar": "PATH,LABEL",
        "type": lambda text: text.split(","),
        "default": [],
        "help": "columns of a list file, by the names in its first line, or by number from 1",
    },
    "--data": {
        "metavar": "DIR",
        "type": Path,
        "help": "folder with train/, test/ (or val/) or classes; list, .zip ...",
    },
    "--device": {"default": "auto", "help": "cpu, cuda, cuda:1, mps; auto: the best there is"},
    "--json": {"action": "store_true", "help": "print JSON"},
    "--root": {"metavar": "DIR", "type": Path, "help": "where the paths of a list file start (default: beside it)"},
    "--set": {
        "metavar": "KEY=VALUE",
        "nargs": "+",
        "action": "extend",
        "default": [],
        "help": "change the recipe: schedule.epochs=10",
    },
    "--weights": {"choices": ("raw", "ema"), "help": "which set of weights (default: ema where there is one)"},
}
SHARED |= {
    name: {"type": number, "metavar": metavar, "default": default, "help": text}
    for name, (number, metavar, default, text) in NUMBERS.items()
}
SHARED["--batch"]["dest"] = "batch_size"  # as functions call it


def add(parser: Any, *names: str, **changes: Any) -> None:
    """Give a parser, or a group of one, these options; `changes` are argparse's words for all of them."""
    for name in names:
        words = {**SHARED.get(name, {}), **changes}
        if words.get("default") not in (None, [], argparse.SUPPRESS):
            words["help"] += f" (default: {words['default']})"
        parser.add_argument(name, **words)


def chosen(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """These options as keyword arguments."""
    return {name: getattr(args, name) for name in names}


def refuse(args: argparse.Namespace, *names: str, because: str) -> None:
    """An option that would do nothing is an error. Raises: ConfigError that names those given."""
    given = [name for name in names if getattr(args, name[2:].replace("-", "_")) not in (None, False, [])]
    if given:
        raise ConfigError(f"{' and '.join(given)} cannot be had here: {because}.")
