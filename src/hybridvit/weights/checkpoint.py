"""One file per trained model: safetensors whose header holds everything needed to use it.

The header's entry "hybridvit" is JSON: format, task, architecture, num_classes, model_args, label_names, pretrained_cfg
(preprocessing), recipe, origin and metrics, spelt as in timm's config.json where timm has a word. Nothing is ever
unpickled, and of a model a file may say only what models/arguments.py lists, so a file from a stranger can neither run nor
fetch anything. A folder as timm's save_for_hf writes it (config.json and model.safetensors) is read through the same door.
"""

import dataclasses
import difflib
import json
import warnings
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
from hybridvit.models import arguments, catalog
from hybridvit.models.backbone import Backbone
from hybridvit.models.configs import CvTConfig
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


# ---- writing ----------------------------------------------------------------------------------------------------------------


def save(
    model: nn.Module,
    path: str | Path,
    *,
    label_names: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    recipe: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    task: str | None = None,
) -> None:
    """Write a model and all that belongs to it to one .safetensors file.

    Atomic: the file appears complete or not at all, even when the machine stops in between. DataParallel,
    DistributedDataParallel and torch.compile are taken off. Class names, preprocessing, task, recipe and origin default
    to those the model carries (a model from load() carries them); names and preprocessing follow a new classifier or
    picture size. Metrics are never carried over: the weights may have changed since.

    Raises: CheckpointError when the model is none of ours, the names do not count as many as the classes, or the place cannot
        be written.
    """
    if isinstance(model, str | Path):  # as before 0.2
        warnings.warn(
            "save(path, model) is now save(model, path), as torch.save has it", DeprecationWarning, stacklevel=2
        )
        model, path = path, model  # type: ignore[assignment]
    found = of_model(
        model,
        label_names=label_names,
        preprocess=preprocess,
        recipe=recipe,
        origin=origin,
        metrics=metrics,
        task=task,
        name=str(path),
    )
    write(found, path)


def of_model(
    model: Any,
    *,
    label_names: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    recipe: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    task: str | None = None,
    name: str = "model",
) -> Checkpoint:
    """What `save` writes of a model; name is what messages call it."""
    while (inner := getattr(model, "_orig_mod", getattr(model, "module", None))) is not None:
        model = inner
    if not all(hasattr(model, needed) for needed in ("pretrained_cfg", "architecture", "num_classes", "_model_args")):
        raise CheckpointError(
            f"{name}: a {type(model).__name__} is no model of the catalogue. Of a fused, exported or pruned model, save the one "
            "that it was made from; of any other, torch.save(model.state_dict(), ...) keeps the weights."
        )
    if label_names is None:
        carried = getattr(model, "label_names", None) or ()
        label_names = carried if len(carried) == model.num_classes else None
    elif len(label_names) != model.num_classes:
        raise CheckpointError(f"{name}: {len(label_names)} class names for a model with {model.num_classes} classes.")
    pretrained_cfg = model.pretrained_cfg
    if preprocess is None:
        carried = getattr(model, "preprocess", None) or Preprocess.from_pretrained_cfg(pretrained_cfg)
        preprocess = adapted(carried, model, getattr(model, "img_size", None))
    recipe, origin = recipe or getattr(model, "recipe", None), origin or getattr(model, "origin", None)
    return Checkpoint(
        task=task or str(getattr(model, "task", CLASSIFICATION)),
        architecture=model.architecture,
        num_classes=model.num_classes,
        model_args=_model_args(model),
        label_names=list(label_names) if label_names else None,
        preprocess=preprocess,
        recipe=dict(recipe) if recipe else None,
        origin=dict(origin) if origin else None,
        metrics=dict(metrics) if metrics else None,
        # Channels-last weights are stored in plain order.
        state={key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()},
    )


def write(checkpoint: Checkpoint, path: str | Path) -> None:
    """Atomically. Raises: CheckpointError."""
    header = {"format": FORMAT, **described(checkpoint)}
    try:
        with replacing(path) as temporary:
            save_file(checkpoint.state, temporary, metadata={"format": "pt", HEADER_KEY: json.dumps(header)})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be written: {error}") from error


def described(checkpoint: Checkpoint) -> dict[str, Any]:
    """Everything but the tensors, as the header and timm's config.json spell it."""
    values = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    if checkpoint.task == CLASSIFICATION:  # whose files stay as they always were
        del values["task"]
    del values["state"], values["preprocess"]
    return values | {"pretrained_cfg": checkpoint.preprocess.to_pretrained_cfg()}


def adapted(own: Preprocess, model: Any, image_size: tuple[int, int] | None) -> Preprocess:
    """Preprocessing at another size, for a model's channels. CvT is resized straight to any size but its own, uncropped."""
    changes: dict[str, Any] = {}
    if image_size is not None and tuple(image_size) != own.image_size:
        changes["image_size"] = tuple(image_size)
        if isinstance(getattr(model, "config", None), CvTConfig):
            changes |= {"crop_pct": 1.0, "crop_mode": "squash"}
    if model.in_chans != own.in_chans:
        for name in ("mean", "std"):
            values = getattr(own, name)
            grey = (sum(values) / len(values),)
            changes[name] = (
                grey if model.in_chans == 1 else tuple(values[c % len(values)] for c in range(model.in_chans))
            )
    return dataclasses.replace(own, **changes)


def _model_args(model: Any) -> dict[str, Any]:
    """What catalog.create needs, beyond name and class count, to build this model again.

    Read from the model as it is now, so that changes after construction (another picture size) are in it.
    """
    if not isinstance(model, Backbone):
        return dict(model._model_args)
    published = catalog.ARCHITECTURES[model.architecture].config
    pairs = ((field.name, getattr(model.config, field.name)) for field in fields(published))
    args = {name: value for name, value in pairs if value != getattr(published, name)}
    args |= {"in_chans": model.in_chans, "global_pool": model.global_pool}
    if hasattr(model, "img_size"):  # position tables are tied to a size
        args["img_size"] = model.img_size
    return args


# ---- reading ----------------------------------------------------------------------------------------------------------------


MALFORMED = (ConfigError, KeyError, TypeError, AttributeError, ValueError, RecursionError)


def of_contents(contents: containers.Contents) -> Checkpoint:
    """The checkpoint in a file of ours. Raises: CheckpointError when its header is damaged, or says what it may not."""
    path = contents.path
    try:
        header = json.loads(contents.metadata[HEADER_KEY])
        if header["format"] == FORMAT:
            return _checkpoint(header, contents.tree, name=str(path))
    except CheckpointError:
        raise
    except MALFORMED as error:
        raise CheckpointError(f"{path}: its hybridvit header is damaged ({error}). Take another copy.") from error
    raise CheckpointError(
        f"{path} has format {header['format']!r}, this hybridvit reads format {FORMAT}. Install a newer one."
    )


def of_timm_folder(folder: Path) -> Checkpoint:
    """The checkpoint in a folder as timm's save_for_hf, or our push_to_hub, writes it. Raises: CheckpointError."""
    config_path, weights_path = folder / "config.json", folder / "model.safetensors"
    missing = [file.name for file in (config_path, weights_path) if not file.is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} is a folder without {' and '.join(missing)}. Name a .safetensors file, or a folder as timm's "
            "save_for_hf(..., safe_serialization=True) writes it."
        )
    state = containers.read(weights_path).tree
    try:
        return _checkpoint(json.loads(config_path.read_text(encoding="utf-8")), state, name=str(folder))
    except CheckpointError:
        raise
    except MALFORMED as error:
        raise CheckpointError(f"{config_path} is not a timm configuration ({error}).") from error


def _checkpoint(config: dict[str, Any], state: dict[str, torch.Tensor], *, name: str) -> Checkpoint:
    """Read timm's keys, and ours where there are any; what a model may not be told is refused here."""
    architecture, num_classes = config["architecture"], config["num_classes"]
    preprocess, label_names = Preprocess.from_pretrained_cfg(config["pretrained_cfg"]), config.get("label_names")
    if not arguments.is_known(architecture):
        near = difflib.get_close_matches(str(architecture), catalog.ARCHITECTURES, n=3)
        hint = f" Nearest known: {', '.join(near)}." if near else ""
        raise CheckpointError(
            f"{name}: unknown architecture {architecture!r}.{hint} `hybridvit models` lists all; "
            "a file from a newer hybridvit needs that version."
        )
    model_args = dict(config.get("model_args") or {})
    model_args.pop("num_classes", None)  # timm says it twice
    try:
        model_args = arguments.checked(architecture, num_classes, model_args)
    except ConfigError as error:
        raise CheckpointError(f"{name}: {architecture} cannot be built as the file says: {error}.") from error
    if isinstance(label_names, dict):  # timm also writes {"0": name, ...}
        label_names = [label_names[str(index)] for index in range(num_classes)]
    is_list = isinstance(label_names, list) and [type(label) for label in label_names] == [str] * num_classes
    if label_names is not None and not is_list:
        raise ValueError(f"label_names are not {num_classes} names")
    task = config.get("task", CLASSIFICATION)
    if task not in arguments.tasks_of(architecture):
        raise CheckpointError(
            f"{name}: a {architecture} is made for {' or '.join(arguments.tasks_of(architecture))}, not for the task {task!r}; a "
            "file from a newer hybridvit needs that version."
        )
    about = {key: config.get(key) for key in ("recipe", "origin", "metrics")}
    wrong = [key for key, value in about.items() if not isinstance(value, dict | None)]
    if wrong:
        raise ValueError(f"{' and '.join(wrong)} should be a dictionary")
    return Checkpoint(
        task=task,
        architecture=architecture,
        num_classes=num_classes,
        model_args=model_args,
        label_names=label_names,
        preprocess=preprocess,
        state=state,
        **about,
    )


# ---- building ---------------------------------------------------------------------------------------------------------------


def build(checkpoint: Checkpoint, *, name: str, share: bool = False) -> nn.Module:
    """The model of a checkpoint that was read already, in eval mode; name is what messages call it.

    It carries pretrained_cfg (timm's dictionary), task, label_names, preprocess, recipe, origin and metrics.

    Args:
        share: keep the checkpoint's own tensors, which may be mapped from the file, where they are of the right type.

    Raises: CheckpointError, which lists every tensor that does not fit, before memory is taken for the model.
    """
    described: Any = {"num_classes": checkpoint.num_classes, "args": checkpoint.model_args}
    try:
        with torch.device("meta"):
            model: Any = arguments.build(checkpoint.architecture, **described)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{name}: {checkpoint.architecture} cannot be built as the file says: {error}") from error
    expected = model.state_dict()
    _refuse_misfits(expected, checkpoint.state, name=name, architecture=checkpoint.architecture)
    if issubclass(type(model), Backbone):
        state = {key: checkpoint.state[key].to(tensor.dtype, copy=not share) for key, tensor in expected.items()}
        model.load_state_dict(state, assign=True)
        if hasattr(model, "img_size"):
            model.set_input_size(model.img_size)  # gathers the position tables anew, outside the meta device
    else:  # heads compute more than their parameters when they are made
        model = arguments.build(checkpoint.architecture, **described)
        model.load_state_dict(checkpoint.state)
    model.pretrained_cfg = {
        **model.pretrained_cfg,
        **checkpoint.preprocess.to_pretrained_cfg(),
        "num_classes": checkpoint.num_classes,
        "label_names": checkpoint.label_names,
    }
    for attribute in ("task", "label_names", "preprocess", "recipe", "origin", "metrics"):
        setattr(model, attribute, getattr(checkpoint, attribute))
    return model.eval()


def _refuse_misfits(
    expected: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], *, name: str, architecture: str
) -> None:
    """Name every tensor that does not fit."""
    misfits = []
    for key in sorted(expected.keys() | state.keys()):
        found = f"file {tuple(state[key].shape)}" if key in state else "not in the file"
        wanted = f"model {tuple(expected[key].shape)}" if key in expected else "not in the model"
        if key not in state or key not in expected or state[key].shape != expected[key].shape:
            misfits.append(f"  {key}  {found}, {wanted}")
    if misfits:
        count = "1 tensor does" if len(misfits) == 1 else f"{len(misfits)} tensors do"
        raise CheckpointError("\n".join([f"{name}: {count} not fit {architecture}:", *misfits]))


def refuse_non_finite(state: Mapping[str, torch.Tensor], *, name: str) -> None:
    """A model with NaN in it answers NaN, or a class that means nothing."""
    non_finite = [key for key, tensor in state.items() if not all_finite(tensor)]
    if non_finite:
        more = f" and {len(non_finite) - 1} more tensors hold" if len(non_finite) > 1 else " holds"
        raise CheckpointError(
            f"{name}: {non_finite[0]}{more} values that are NaN or infinite, so no answer of this model would mean anything. "
            "Take an earlier checkpoint. `hybridvit inspect` says more, and load(..., allow_non_finite=True) opens it anyway."
        )


def all_finite(tensor: torch.Tensor) -> bool:
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return bool(torch.isfinite(tensor.sum()) or tensor.isfinite().all())
