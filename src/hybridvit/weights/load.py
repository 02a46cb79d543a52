"""The one door for weights files: whose a file is, and the model in it."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from hybridvit.weights import checkpoint, containers, fetch, translate
from hybridvit.weights.checkpoint import Checkpoint
from hybridvit.weights.report import Report
from hybridvit.weights.translate import Translated


def load(path: str | Path, *, device: str | torch.device = "cpu", allow_non_finite: bool = False) -> nn.Module:
    """The model in a file of ours, a folder in timm's layout, a repository of the hub, or any published file, in eval mode.

    It also carries pretrained_cfg (timm's dictionary), label_names, preprocess, recipe, origin and metrics.

    Args:
        path: a file or folder, or hf://OWNER/NAME (also hf-hub:OWNER/NAME, and OWNER/NAME@REVISION).
        allow_non_finite: open weights that are NaN or infinite all the same, to look at them.

    Raises: CheckpointError as `read_checkpoint` does; DownloadError for a repository that cannot be had.
    """
    return checkpoint.build(read_checkpoint(path, allow_non_finite=allow_non_finite), name=str(path)).to(device)


def read_checkpoint(path: str | Path, *, allow_non_finite: bool = False) -> Checkpoint:
    """What `load` builds a model from, unbuilt.

    Raises: CheckpointError when the file is missing, damaged or none of these, when tensors do not fit (all are listed), and
        when weights are not finite.
    """
    name, path = str(path), fetch.local(path)
    contents = None if path.is_dir() else containers.read(path)
    if contents is None:
        found = checkpoint.of_timm_folder(path)
    elif checkpoint.HEADER_KEY in contents.metadata:
        found = checkpoint.of_contents(contents)
    else:
        translated = translate.translate(contents)
        translate.refuse_misfits(translated.report)
        found = translated.checkpoint
    if not allow_non_finite:
        checkpoint.refuse_non_finite(found.state, name=name)
    return found


def open_file(path: str | Path, **options: Any) -> Translated:
    """Any weights file as a checkpoint, with a report on it, whatever is wrong with its values.

    Args: as `translate.translate`.

    Raises: CheckpointError when the file cannot be read, or be told for certain. Tensors that do not fit are in the report.
    """
    path = fetch.local(path)
    if path.is_dir():  # timm's folders are ours too
        return translate.of_ours(checkpoint.of_timm_folder(path), path / "model.safetensors", "timm folder")
    contents = containers.read(path)
    if checkpoint.HEADER_KEY in contents.metadata:
        return translate.of_ours(checkpoint.of_contents(contents), path, contents.format)
    return translate.translate(contents, **options)


def inspect(path: str | Path, **options: Any) -> Report:
    """What a weights file is: who wrote it, which model, what lies in it, what looks wrong. Options: as `open_file`."""
    return open_file(path, **options).report
