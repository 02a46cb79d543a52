"""What looks wrong in a set of weights, and what a reader should know about it."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from hybridvit.errors import some
from hybridvit.files import digest
from hybridvit.models.heads import assembly
from hybridvit.weights.checkpoint import all_finite
from hybridvit.weights.mapping import Mapped
from hybridvit.weights.published import WEIGHTS
from hybridvit.weights.report import Report

# Words of a file's name that name a size, by family.
_SIZE_WORDS = {
    "cvt": {"13": "13", "21": "21", "w24": "w24"},
    "cmt": {
        **{"tiny": "ti", "ti": "ti", "xsmall": "xs", "xs": "xs"},
        **{"small": "s", "s": "s", "base": "b", "b": "b", "large": "l", "l": "l"},
    },
}
_RESOLUTIONS = ("160", "192", "224", "256", "288", "384", "512")


def warnings(path: Path, report: Report, state: Mapping[str, Tensor]) -> list[str]:
    """Everything suspicious, one sentence each."""
    return [*_altered(path), *_name_contradictions(path.name, report), *_bad_values(state), *_untrained(state)]


def _altered(path: Path) -> list[str]:
    """A file that is called as a published one, whose hash is known, and has another."""
    known = [weights.md5 for weights in WEIGHTS.values() if weights.md5 and weights.url.endswith(f"/{path.name}")]
    if not known:
        return []
    md5 = digest(path, "md5")
    return [] if md5 in known else [f"Its md5 is {md5}; that of the published {path.name} is {known[0]}."]


def _name_contradictions(file_name: str, report: Report) -> list[str]:
    words = re.split(r"[^a-z0-9]+", file_name.lower().rpartition(".")[0])
    backbone = (assembly.split(report.architecture) or ("", report.architecture))[1]
    family, actual = [*backbone.split("_"), ""][:2]
    if family not in _SIZE_WORDS:  # one of timm's
        return []
    sizes = {_SIZE_WORDS[family][word] for word in words if word in _SIZE_WORDS[family]}
    found = []
    if sizes and actual not in sizes:
        found.append(f"The file's name says {family}_{min(sizes)}, its tensors say {report.architecture}.")
    resolutions = {word for piece in words for word in piece.split("x") if word in _RESOLUTIONS}
    if report.image_size and resolutions and str(report.image_size[0]) not in resolutions:
        size = "x".join(str(n) for n in report.image_size)
        found.append(
            f"The file's name says {'/'.join(sorted(resolutions))} pixels, its position tables are for {size}."
        )
    return found


def _bad_values(state: Mapping[str, Tensor]) -> list[str]:
    non_finite = {key: int((~tensor.isfinite()).sum()) for key, tensor in state.items() if not all_finite(tensor)}
    weights = {key: count for key, count in non_finite.items() if "running_" not in key}
    statistics = [key for key in non_finite if "running_" in key]
    negative = [
        key for key, tensor in state.items() if key.endswith("running_var") and len(tensor) and float(tensor.min()) < 0
    ]
    found = []
    if weights:
        found.append(
            f"{sum(weights.values())} values in {len(weights)} tensors are NaN or infinite: {some(list(weights), 3)}."
        )
    if statistics:
        found.append(f"BatchNorm statistics are NaN or infinite in {len(statistics)} tensors: {some(statistics, 3)}.")
    if negative:
        found.append(f"BatchNorm variances are negative in {len(negative)} tensors: {some(negative, 3)}.")
    return found


def _untrained(state: Mapping[str, Tensor]) -> list[str]:
    tables = {key: tensor for key, tensor in state.items() if "position" in key}
    zero = [key for key, tensor in tables.items() if not tensor.any()]
    found = []
    if zero:
        found.append(f"{len(zero)} of {len(tables)} position tables are zero throughout: they were never trained.")
    variances = [tensor for key, tensor in state.items() if key.endswith("running_var")]
    if variances and all(bool((tensor == 1).all()) for tensor in variances):
        found.append("BatchNorm statistics are as they were before training.")
    return found


def notes(path: Path, report: Report, mapped: Mapped, dropped: list[str]) -> list[str]:
    """What is in order but worth knowing."""
    found = []
    if report.source == "transformers":
        found.append(_on_arithmetic(report.architecture))
    elif report.source == "kecam" and report.architecture.endswith("_kecam_port"):
        found.append(
            "The authors' weights; kecam computes LayerNorm with eps 1e-5, so this is an architecture of its own. "
            "--arithmetic authors computes as the authors do."
        )
    if "ema" in report.sets and "raw" in report.sets:
        found.append(f"Holds raw and averaged (EMA) weights; --weights chooses, used here: {report.used_set}.")
    if path.suffix == ".pdparams" and path.with_suffix(".pdema").exists():
        found.append(
            f"{path.with_suffix('.pdema').name} lies beside it: then this file holds the average, that one the raw weights."
        )
    if mapped.filled:
        kinds = Counter(key.rpartition(".")[2] for key in mapped.filled)
        found.append(f"Not in the file, zero here: {', '.join(f'{count} x {kind}' for kind, count in kinds.items())}.")
    if dropped:
        found.append(f"Dropped, as no model needs them: {some(dropped, 3)}.")
    if not report.num_classes:
        found.append("No classifier in the file: the model gives features. --num-classes N --new-head adds one.")
    if report.image_size is None:
        found.append("CvT's weights are tied to no picture size; --image-size H W sets the one to evaluate at.")
    kind = only_float_type(Counter(report.dtypes))
    if kind == "float64":
        found.append("float64 weights are rounded to float32.")
    elif kind:
        found.append(f"{kind} weights are held as float32, which loses nothing.")
    return found


def _on_arithmetic(architecture: str) -> str:
    if architecture.endswith("_gelu"):
        return (
            "transformers computes with the exact GELU, and so does this architecture. Weights published as "
            "microsoft/cvt-* were trained with QuickGELU: for them, --arithmetic authors is right."
        )
    return "Computed with the authors' QuickGELU, as microsoft/cvt-* were trained; transformers itself uses the exact GELU."


def only_float_type(dtypes: Mapping[str, int]) -> str | None:
    """The type of all floating tensors where it is one, and not float32."""
    kinds = {kind for kind in dtypes if "float" in kind}
    return kinds.pop() if len(kinds) == 1 and kinds != {"float32"} else None
