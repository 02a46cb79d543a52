"""A weights file to tensors under our names, each of them accounted for. Nothing is changed on the way."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hybridvit.errors import CheckpointError
from hybridvit.files import digest
from hybridvit.models import catalog
from hybridvit.models.heads import assembly
from hybridvit.weights import containers, examine, mapping
from hybridvit.weights.checkpoint import Checkpoint, adapted
from hybridvit.weights.identify import Identified, Wrapped, identify, unwrap
from hybridvit.weights.mapping import Mapped
from hybridvit.weights.report import Report

Progress = Callable[[int, int], None]
MAX_PROBLEMS = 20  # in a message


def no_progress(done: int, total: int) -> None:
    """For callers that do not watch."""


@dataclass
class Translated:
    """A file's weights as a checkpoint of ours. Where the report has problems, the checkpoint is incomplete."""

    checkpoint: Checkpoint
    report: Report


def translate(
    contents: containers.Contents,
    *,
    weights: str | None = None,
    arithmetic: str | None = None,
    architecture: str | None = None,
    image_size: tuple[int, int] | None = None,
    progress: Progress = no_progress,
) -> Translated:
    """Translate a published file.

    Args:
        contents: of the file, whose tensors are used up.
        weights: "raw" or "ema"; by default the average where the file has one, as timm does.
        arithmetic: "authors" for weights that the authors trained, whatever implementation they are stored for.
        architecture: a name of the catalogue, for files with our own names, which do not tell it.
        image_size: (height, width) of the position tables, should they not be square.
        progress: called with (tensors done, all).

    Raises: CheckpointError when the file cannot be read, or be told for certain. Tensors that do not fit are in the report.
    """
    path = contents.path
    try:
        wrapped = unwrap(contents.tree)
        used_set = _choose(wrapped, weights)
        state = wrapped.sets[used_set]
        dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in state.values())
        identified = identify(
            state,
            architecture=architecture or wrapped.architecture or _architecture_beside(path),
            arithmetic=arithmetic,
            image_size=image_size,
        )
    except CheckpointError as error:
        raise CheckpointError(f"{path} {error}.") from error
    total = len(state)
    sets = {name: len(tensors) for name, tensors in wrapped.sets.items()}
    for held in (contents.tree, wrapped.sets, state):  # so that each tensor is freed once it is translated
        held.clear()
    wanted = identified.model.state_dict()
    mapped = mapping.to_ours(identified.source, identified.state, wanted, identified.model.config.heads, progress)
    _complete_headless(identified, mapped)
    dropped = [key for key in identified.state if mapping.is_leftover(key)]
    report = Report(
        file=str(path),
        bytes=path.stat().st_size,
        sha256=digest(path),
        format=contents.format,
        source=identified.source.name,
        title=identified.source.title,
        architecture=identified.architecture,
        num_classes=identified.num_classes,
        in_chans=identified.model_args["in_chans"],
        image_size=identified.model_args.get("img_size"),
        options=_options(identified.architecture, identified.model_args),
        sets=sets,
        used_set=used_set,
        beside=wrapped.beside,
        prefix=identified.prefix,
        dtypes=dict(dtypes),
        parameters=sum(parameter.numel() for parameter in identified.model.parameters()),
        tensors={
            "file": total,
            "used": total - len(identified.state),
            "dropped": len(dropped),
            "model": len(wanted),
            "filled": len(mapped.filled),
        },
        problems=_problems(identified, mapped),
    )
    report.warnings = examine.warnings(path, report, mapped.state)
    report.notes = examine.notes(path, report, mapped, dropped)
    preprocess = catalog.ARCHITECTURES[identified.architecture].preprocess
    origin = {
        "source": report.source,
        "file": path.name,
        "sha256": report.sha256,
        "weights": used_set,
        "dialect": identified.dialect,
        "absent": mapped.absent,
        "dtype": examine.only_float_type(dtypes),
    }
    found = Checkpoint(
        architecture=identified.architecture,
        num_classes=identified.num_classes,
        model_args=identified.model_args,
        label_names=None,
        preprocess=adapted(preprocess, identified.model, report.image_size),
        recipe=None,
        origin=origin,
        metrics=None,
        state=mapped.state,
    )
    return Translated(found, report)


def refuse_misfits(report: Report) -> None:
    if not report.problems:
        return
    shown = report.problems[:MAX_PROBLEMS]
    count = "1 tensor does" if len(report.problems) == 1 else f"{len(report.problems)} tensors do"
    lines = [f"{report.file} looks like {report.title}, but {count} not fit {report.architecture}:"]
    lines += [f"  {problem}" for problem in shown]
    if len(report.problems) > len(shown):
        lines.append(f"  ... and {len(report.problems) - len(shown)} more (hybridvit inspect --json lists all)")
    lines.append("Either the file is incomplete, or it is a variant that the catalogue does not have.")
    raise CheckpointError("\n".join(lines))


def of_ours(found: Checkpoint, path: Path, format: str) -> Translated:
    """A checkpoint that needs no translation, with its report."""
    size = found.model_args.get("img_size")
    report = Report(
        file=str(path),
        bytes=path.stat().st_size,
        sha256=digest(path),
        format=format,
        source="hybridvit",
        title="hybridvit checkpoint",
        architecture=found.architecture,
        num_classes=found.num_classes,
        in_chans=found.model_args.get("in_chans", found.preprocess.in_chans),
        image_size=tuple(size) if size else None,
        options=_options(found.architecture, found.model_args),
        sets={"raw": len(found.state)},
        used_set="raw",
        beside={"origin": json.dumps(found.origin)} if found.origin else {},
        prefix="",
        dtypes=dict(Counter(str(tensor.dtype).removeprefix("torch.") for tensor in found.state.values())),
        parameters=sum(t.numel() for key, t in found.state.items() if "running_" not in key and t.is_floating_point()),
        tensors=dict.fromkeys(("file", "used", "model"), len(found.state)) | {"dropped": 0, "filled": 0},
    )
    report.warnings = examine.warnings(path, report, found.state)
    return Translated(found, report)


def _choose(wrapped: Wrapped, weights: str | None) -> str:
    if not wrapped.sets:
        raise CheckpointError(f"holds no weights, only {', '.join(list(wrapped.beside)[:5]) or 'nothing'}")
    if weights is None:
        return "ema" if "ema" in wrapped.sets else "raw"
    if weights not in wrapped.sets:
        raise CheckpointError(f"holds no {weights} weights, only {' and '.join(wrapped.sets)}")
    return weights


def _architecture_beside(path: Path) -> str | None:
    """timm's config.json, which lies beside model.safetensors."""
    config = path.with_name("config.json")
    try:
        name = json.loads(config.read_text(encoding="utf-8")).get("architecture") if config.is_file() else None
    except (OSError, ValueError, AttributeError):
        return None
    return name if isinstance(name, str) else None


def _complete_headless(identified: Identified, mapped: Mapped) -> None:
    """transformers' CvtModel ends before the final norm, which then begins as every LayerNorm does."""
    keys = ("norm.weight", "norm.bias")
    theirs = [name for key in keys if (found := identified.source.find(key)) for name in found[1]]
    if identified.num_classes == 0 and theirs and mapped.missing == theirs:
        width = identified.model.state_dict()["norm.weight"].shape
        mapped.state |= {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
        mapped.missing.clear()
        mapped.filled += keys


def _options(architecture: str, model_args: Mapping[str, Any]) -> dict[str, Any]:
    if assembly.split(architecture):
        return {key: value for key, value in model_args.items() if key != "in_chans"}
    published = catalog.architecture(architecture).config
    return {
        key: value for key, value in model_args.items() if hasattr(published, key) and getattr(published, key) != value
    }


def _problems(identified: Identified, mapped: Mapped) -> list[str]:
    return [
        *(f"{key}  file {found}, model {needed}" for key, found, needed in mapped.wrong),
        *(f"{key}  not in the file" for key in mapped.missing),
        *(f"{key}  no place in the model" for key in identified.state if not mapping.is_leftover(key)),
    ]
