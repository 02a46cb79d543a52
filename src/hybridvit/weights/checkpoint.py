"""One file per trained model: safetensors whose header holds everything needed to use it.

The header's entry "hybridvit" is JSON: format, architecture, num_classes, model_args, label_names, pretrained_cfg
(preprocessing), recipe, origin and metrics, spelt as in timm's config.json where timm has a word. Nothing is ever
unpickled, so a file from a stranger cannot run code. A folder as timm's save_for_hf writes it (config.json and
model.safetensors) is read through the same door.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from hybridvit.config import Preprocess
from hybridvit.errors import CheckpointError, ConfigError
from hybridvit.files import replacing
from hybridvit.models import catalog
from hybridvit.weights import containers

FORMAT = 1
HEADER_KEY = "hybridvit"
CLASSIFICATION = "classification"
"""The task of files that name none."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a file holds, before a model is built from it."""

    architecture: str
    # a name in models/catalog.py
    num_classes: int
    model_args: dict[str, Any]
    # further arguments of catalog.create
    label_names: list[str] | None
    # class names in the order of the logits
    preprocess: Preprocess
    recipe: dict[str, Any] | None
    # how it was trained
    origin: dict[str, Any] | None
    # where foreign weights came from: source, file, sha256
    metrics: dict[str, Any] | None
    state: dict[str, torch.Tensor]
    task: str = CLASSIFICATION


def save(
    path: str | Path,
    model: nn.Module,
    *,
    label_names: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    recipe: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    task: str | None = None,
) -> None:
    """Write a model and all that belongs to it to one .safetensors file.

    Atomic: the file appears complete or not at all, even when the machine stops in between.
    Class names, preprocessing and task default to those the model carries (a model from load() carries them).

    Raises: CheckpointError when the names do not count as many as the classes, or the folder cannot be written.
    """
    path = Path(path)
    pretrained_cfg: Any = model.pretrained_cfg
    label_names = label_names or getattr(model, "label_names", None)
    preprocess = preprocess or getattr(model, "preprocess", None) or Preprocess.from_pretrained_cfg(pretrained_cfg)
    if label_names is not None and len(label_names) != model.num_classes:
        raise CheckpointError(f"{path}: {len(label_names)} class names for a model with {model.num_classes} classes.")
    header = {
        "format": FORMAT,
        "architecture": pretrained_cfg["architecture"],
        "num_classes": model.num_classes,
        "model_args": _model_args(model),
        "label_names": list(label_names) if label_names is not None else None,
        "pretrained_cfg": preprocess.to_pretrained_cfg(),
        "recipe": recipe,
        "origin": origin,
        "metrics": metrics,
    }
    task = task or getattr(model, "task", CLASSIFICATION)
    if task != CLASSIFICATION:  # whose files stay as they always were
        header["task"] = task
    # Channels-last weights are stored in plain order.
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    try:
        with replacing(path) as temporary:
            save_file(state, temporary, metadata={"format": "pt", HEADER_KEY: json.dumps(header)})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be written: {error}") from error


def read(path: str | Path) -> Checkpoint:
    """Read a checkpoint file, a folder in timm's layout, or any published checkpoint, without building the model.

    Raises: CheckpointError when it is missing, damaged, or none of these.
    """
    path = Path(path)
    if path.is_dir():
        return _read_timm_folder(path)
    contents = containers.read(path)
    if HEADER_KEY not in contents.metadata:
        from hybridvit.weights.translate import read_foreign  # it builds on this file

        return read_foreign(contents)
    try:
        header = json.loads(contents.metadata[HEADER_KEY])
        written_as, checkpoint = header["format"], _checkpoint(header, contents.tree)
    except (ConfigError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: its hybridvit header is damaged ({error}). Take another copy.") from error
    if written_as != FORMAT:
        raise CheckpointError(
            f"{path} has format {written_as}, this hybridvit reads format {FORMAT}. Install a newer one."
        )
    return checkpoint


def load(path: str | Path, *, device: str | torch.device = "cpu") -> nn.Module:
    """Build the model a checkpoint describes, with its weights, in eval mode.

    The model also carries pretrained_cfg (timm's dictionary), label_names, preprocess and task.

    Raises: CheckpointError as read() does, and when the architecture is unknown or tensors do not fit (all are listed).
    """
    return build(read(path), name=str(path)).to(device)


def build(checkpoint: Checkpoint, *, name: str) -> nn.Module:
    """Build the model of a checkpoint that was read already; name is what messages call it."""
    if checkpoint.architecture not in catalog.ARCHITECTURES:
        near = difflib.get_close_matches(checkpoint.architecture, catalog.ARCHITECTURES, n=3)
        hint = f" Nearest known: {', '.join(near)}." if near else ""
        raise CheckpointError(
            f"{name}: unknown architecture {checkpoint.architecture!r}.{hint} `hybridvit models` lists all; "
            "a file from a newer hybridvit needs that version."
        )
    try:
        model: Any = catalog.create(
            checkpoint.architecture, num_classes=checkpoint.num_classes, **checkpoint.model_args
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{name}: {checkpoint.architecture} cannot be built as the file says: {error}") from error
    _load_strictly(model, checkpoint.state, name=name, architecture=checkpoint.architecture)
    model.pretrained_cfg = {
        **model.pretrained_cfg,
        **checkpoint.preprocess.to_pretrained_cfg(),
        "num_classes": checkpoint.num_classes,
        "label_names": checkpoint.label_names,
    }
    model.label_names = checkpoint.label_names
    model.preprocess = checkpoint.preprocess
    model.task = checkpoint.task
    return model.eval()


def _load_strictly(model: nn.Module, state: Mapping[str, torch.Tensor], *, name: str, architecture: str) -> None:
    """Copy the tensors in, or name every one that does not fit."""
    expected = model.state_dict()
    misfits = []
    for key in sorted(expected.keys() | state.keys()):
        found = f"file {tuple(state[key].shape)}" if key in state else "not in the file"
        wanted = f"model {tuple(expected[key].shape)}" if key in expected else "not in the model"
        if key not in state or key not in expected or state[key].shape != expected[key].shape:
            misfits.append(f"  {key}  {found}, {wanted}")
    if misfits:
        count = "1 tensor does" if len(misfits) == 1 else f"{len(misfits)} tensors do"
        raise CheckpointError("\n".join([f"{name}: {count} not fit {architecture}:", *misfits]))
    model.load_state_dict(state)


def _model_args(model: Any) -> dict[str, Any]:
    """What catalog.create needs, beyond name and class count, to build this model again.

    Read from the model as it is now, so that changes after construction (another picture size) are in it.
    """
    published = catalog.ARCHITECTURES[model.pretrained_cfg["architecture"]].config
    pairs = ((field.name, getattr(model.config, field.name)) for field in fields(published))
    args = {name: value for name, value in pairs if value != getattr(published, name)}
    args |= {"in_chans": model.in_chans, "global_pool": model.global_pool}
    if hasattr(model, "img_size"):  # position tables are tied to a size
        args["img_size"] = model.img_size
    return args


def _read_timm_folder(folder: Path) -> Checkpoint:
    config_path, weights_path = folder / "config.json", folder / "model.safetensors"
    missing = [file.name for file in (config_path, weights_path) if not file.is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} is a folder without {' and '.join(missing)}. Name a .safetensors file, or a folder as timm's "
            "save_for_hf(..., safe_serialization=True) writes it."
        )
    state = containers.read(weights_path).tree
    try:
        return _checkpoint(json.loads(config_path.read_text(encoding="utf-8")), state)
    except (ConfigError, KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{config_path} is not a timm configuration ({error}).") from error


def _checkpoint(config: dict[str, Any], state: dict[str, torch.Tensor]) -> Checkpoint:
    """Read timm's keys, and ours where there are any."""
    model_args = {key: _tuple(value) for key, value in config.get("model_args", {}).items()}
    model_args.pop("num_classes", None)  # timm says it twice
    label_names = config.get("label_names")
    if isinstance(label_names, dict):  # timm also writes {"0": name, ...}
        label_names = [label_names[str(index)] for index in range(config["num_classes"])]
    return Checkpoint(
        architecture=config["architecture"],
        num_classes=config["num_classes"],
        model_args=model_args,
        label_names=label_names,
        preprocess=Preprocess.from_pretrained_cfg(config["pretrained_cfg"]),
        recipe=config.get("recipe"),
        origin=config.get("origin"),
        metrics=config.get("metrics"),
        state=state,
        task=config.get("task", CLASSIFICATION),
    )


def _tuple(value: Any) -> Any:
    """Undo JSON's turning of tuples, nested ones too, into lists."""
    return tuple(_tuple(item) for item in value) if isinstance(value, list) else value
