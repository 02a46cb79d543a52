"""Any published checkpoint to a model and back, changed only where the user asks."""

import dataclasses
import difflib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybridvit.errors import CheckpointError, ConfigError
from hybridvit.files import replacing
from hybridvit.models import catalog
from hybridvit.weights import checkpoint, containers, mapping
from hybridvit.weights.checkpoint import Checkpoint, adapted
from hybridvit.weights.identify import ending_of
from hybridvit.weights.load import open_file, read_checkpoint
from hybridvit.weights.mapping import Source
from hybridvit.weights.report import Report
from hybridvit.weights.tables import PUBLISHED
from hybridvit.weights.translate import Progress, no_progress, refuse_misfits


def open_foreign(
    path: str | Path,
    *,
    weights: str | None = None,
    num_classes: int | None = None,
    new_head: bool = False,
    image_size: tuple[int, int] | None = None,
    in_chans: int | None = None,
    arithmetic: str | None = None,
    architecture: str | None = None,
    progress: Progress = no_progress,
) -> tuple[Any, Report]:
    """A published checkpoint as a model in eval mode, and the report on it.

    Args: as `translate`, and
        num_classes, new_head: another number of classes needs new_head, which begins the classifier anew.
        image_size: (height, width); position tables are resized to it.
        in_chans: another number of input channels; the first convolution is summed or repeated, as timm does.

    The model's tensors may be mapped from the file: clone them (`checkpoint.build` does) if the file can change.

    Raises: CheckpointError, which lists every tensor that does not fit.
    """
    options = {"weights": weights, "arithmetic": arithmetic, "architecture": architecture}
    found = open_file(path, **options, image_size=image_size, progress=progress)
    original, report = found.checkpoint, found.report
    refuse_misfits(report)
    model = _build(_with_channels(original, in_chans, report), num_classes, new_head, report)
    if image_size is not None and report.image_size not in (None, tuple(image_size)):
        try:
            model.set_input_size(tuple(image_size))
        except ConfigError as error:
            raise CheckpointError(f"{path}: {error}") from error
        report.notes.append(f"Position tables resized from {_by(report.image_size)} to {_by(image_size)}.")
    model.preprocess = adapted(original.preprocess, model, image_size)
    if new_head or model.num_classes != original.num_classes:
        model.label_names = None
    if checkpoint.of_model(model).model_args != original.model_args or model.label_names != original.label_names:
        model.metrics = None  # those of another model
    model.pretrained_cfg |= model.preprocess.to_pretrained_cfg()
    model.pretrained_cfg |= {"num_classes": model.num_classes, "label_names": model.label_names}
    return model, report


def convert(path: str | Path, out: str | Path, **options: Any) -> Report:
    """`open_foreign`, saved as a checkpoint of our own, atomically, with where it came from. options: as there."""
    model, report = open_foreign(path, **options)
    checkpoint.save(model, out, preprocess=model.preprocess, metrics=model.metrics)
    return report


def _with_channels(found: Checkpoint, in_chans: int | None, report: Report) -> Checkpoint:
    if in_chans is None or in_chans == report.in_chans:
        return found
    from timm.models import adapt_input_conv

    key = "stages.0.embed.conv.weight" if report.architecture.startswith("cvt") else "stem.0.conv.weight"
    if report.in_chans != 3:
        raise CheckpointError(
            f"{report.file} takes {report.in_chans} channels; only files for 3 can be adapted to {in_chans}."
        )
    report.notes.append(f"First convolution adapted from 3 to {in_chans} channels.")
    return dataclasses.replace(
        found,
        model_args={**found.model_args, "in_chans": in_chans},
        state={**found.state, key: adapt_input_conv(in_chans, found.state[key])},
    )


def _build(found: Checkpoint, num_classes: int | None, new_head: bool, report: Report) -> Any:
    """The model around the tensors themselves, so that they are never held twice."""
    if num_classes is None:
        if new_head:
            raise CheckpointError(f"{report.file}: --new-head needs --num-classes N, the number of your classes.")
        num_classes = found.num_classes
    if num_classes not in (found.num_classes, 0) and not new_head:
        has = f"a head of {found.num_classes} classes" if found.num_classes else "no head"
        keep = "Leave --num-classes out to keep it, or add" if found.num_classes else "Add"
        raise CheckpointError(f"{report.file} has {has}, not {num_classes}. {keep} --new-head to begin a new one.")
    model: Any = checkpoint.build(found, name=report.file, share=True)
    if new_head or num_classes != found.num_classes:
        model.reset_classifier(num_classes)
        report.notes.append(
            f"New head of {num_classes} classes, untrained; the file's {found.num_classes} classes were dropped."
            if num_classes
            else "Without its head: the model gives features."
        )
    return model


def _by(size: tuple[int, int] | None) -> str:
    return "x".join(str(n) for n in size or ())


# ---- and back ---------------------------------------------------------------------------------------------------------------


def export_weights(path: str | Path, to: str, out: str | Path) -> list[str]:
    """Write a checkpoint of ours in a source's own format. Returns what the user should know.

    Raises: ConfigError for an unknown source; CheckpointError when it has no such arithmetic, or no place for one of the tensors.
    """
    if to not in PUBLISHED:
        near = difflib.get_close_matches(to, PUBLISHED, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"There is no source {to!r}.{hint} Known: {', '.join(PUBLISHED)}.")
    found = read_checkpoint(path)
    source = PUBLISHED[to]
    with torch.device("meta"):
        model: Any = catalog.create(found.architecture, num_classes=found.num_classes, **found.model_args)
    ending = ending_of(found.architecture)
    if not found.architecture.startswith(source.family) or ending not in source.suffixes:
        able = [s.name for s in PUBLISHED.values() if found.architecture.startswith(s.family) and ending in s.suffixes]
        raise CheckpointError(
            f"{path} is {found.architecture}, and {source.title} does not compute as it does. "
            f"Sources that do: {', '.join(able) or 'none'}."
        )
    origin = found.origin or {}
    same_source = origin.get("source") == source.name
    dtype = getattr(torch, str(origin.get("dtype"))) if same_source and origin.get("dtype") else None
    absent = [mapping.Pattern(text) for text in origin.get("absent", ())] if same_source else []
    order = model.state_dict()
    if order.keys() != found.state.keys():
        raise CheckpointError(f"{path} does not hold what a {found.architecture} needs; `hybridvit inspect` says what.")
    _refuse_other_arithmetic(path, found, source)
    try:
        theirs = mapping.to_theirs(source, {key: found.state[key] for key in order}, model.config.heads)
    except KeyError as error:
        raise CheckpointError(f"{path}: {source.title} has no place for {error.args[0]}.") from error
    written = {
        source.spell(key, origin.get("dialect", "") if same_source else ""): _as(tensor, dtype)
        for key, tensor in theirs.items()
        if not any(pattern.match(key) is not None for pattern in absent)
    }
    try:
        with replacing(out) as temporary:
            containers.write(temporary, source.format, written, layout=source.layout)
    except OSError as error:
        raise CheckpointError(f"{out} cannot be written: {error}") from error
    if ending != source.suffixes[0]:
        return [
            f"{source.title} computes with another arithmetic than these weights were trained with ({found.architecture})."
        ]
    return []


def _refuse_other_arithmetic(path: str | Path, found: Checkpoint, source: Source) -> None:
    """A field of the config that the source knows nothing of would be lost."""
    published = catalog.architecture(found.architecture).config
    changed = [
        key
        for key, value in found.model_args.items()
        if key not in source.options and "drop" not in key and getattr(published, key, value) != value
    ]
    if changed:
        raise CheckpointError(
            f"{path} was built with {', '.join(changed)} of its own, which {source.title} cannot be told."
        )


def _as(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
