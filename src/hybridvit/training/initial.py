"""Begin from weights instead of from chance."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from hybridvit.errors import CheckpointError
from hybridvit.models import catalog
from hybridvit.models.backbone import Backbone
from hybridvit.weights import checkpoint, download
from hybridvit.weights.load import read_checkpoint
from hybridvit.weights.published import find_weights


def start_from(model: nn.Module, init: str | Path, *, say: Callable[[str], None]) -> None:
    """Load a checkpoint, or published weights by name (cvt_13.ms_in1k), into `model`.

    Position tables are resized to the model's picture size; the classifier stays fresh where the number of classes differs.
    A detector or segmenter also begins from a classifier of its backbone's architecture, whose own head is left out.

    Raises:
        CheckpointError: another architecture, or any other tensor is missing, left over, or of another shape.
        DownloadError: published weights cannot be had.
    """
    path = Path(init)
    if not path.exists() and str(init).partition(".")[0] in catalog.ARCHITECTURES:
        path = download.download(find_weights(str(init)))
    file = read_checkpoint(path)
    target: Any = model
    architecture = target.pretrained_cfg["architecture"]
    backbone = _backbone_in(target)
    if backbone is not None and file.architecture == backbone.pretrained_cfg["architecture"]:
        _fill_backbone(backbone, file, name=str(init))
        say(f"Starting from {init}: its backbone; what stands on it starts afresh.")
        return
    if file.architecture != architecture:
        raise CheckpointError(
            f"{init} is a {file.architecture}, the recipe trains a {architecture}. "
            f"Use --set model.name={file.architecture}."
        )
    state, own = _at_size_of(target, file, name=str(init)), model.state_dict()
    if file.num_classes != target.num_classes:
        layers = target.pretrained_cfg["classifier"]  # a name, or several, as timm has it
        prefixes = tuple(f"{layer}." for layer in ([layers] if isinstance(layers, str) else layers))
        state |= {name: tensor for name, tensor in own.items() if name.startswith(prefixes)}
        say(f"{init} knows {file.num_classes} classes, this run {target.num_classes}: the classifier starts afresh.")
    else:
        say(f"Starting from {init}.")
    _fill(model, state, name=str(init))


def _backbone_in(model: nn.Module) -> Backbone | None:
    """The catalogue's model that a detector or segmenter stands on."""
    found = (module for module in model.modules() if module is not model and isinstance(module, Backbone))
    return next(found, None)


def _fill_backbone(backbone: Backbone, file: checkpoint.Checkpoint, *, name: str) -> None:
    """Without what the maps do not depend on: the classifier's head, CvT's last norm."""
    state = _at_size_of(backbone, file, name=name)
    behind = ("head.", "norm.")
    _fill(
        backbone, {k: v for k, v in state.items() if k in backbone.state_dict() or not k.startswith(behind)}, name=name
    )


def _fill(model: nn.Module, state: dict[str, Any], *, name: str) -> None:
    """Load the tensors. Raises: CheckpointError, which lists all that do not fit."""
    own = model.state_dict()
    problems = [f"  {key}: missing in the file" for key in own if key not in state]
    problems += [f"  {key}: not in the model" for key in state if key not in own]
    problems += [
        f"  {key}: file {tuple(state[key].shape)}, model {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if problems:
        architecture = model.pretrained_cfg["architecture"]  # type: ignore[index]
        raise CheckpointError(f"{name} does not fit {architecture}:\n" + "\n".join(problems))
    model.load_state_dict(state)


def _at_size_of(model: Any, file: checkpoint.Checkpoint, *, name: str) -> dict[str, Any]:
    """The file's tensors, with position tables for the model's picture size."""
    size = file.model_args.get("img_size")
    if size is None or tuple(size) == tuple(model.img_size):
        return dict(file.state)
    donor: Any = checkpoint.build(file, name=name)
    donor.set_input_size(model.img_size)
    return donor.state_dict()
