"""Begin from weights instead of from chance."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from hybridvit.errors import CheckpointError
from hybridvit.models import catalog
from hybridvit.weights import checkpoint, download
from hybridvit.weights.load import read_checkpoint
from hybridvit.weights.published import find_weights


def start_from(model: nn.Module, init: str | Path, *, say: Callable[[str], None]) -> None:
    """Load a checkpoint, or published weights by name (cvt_13.ms_in1k), into `model`.

    Position tables are resized to the model's picture size; the classifier stays fresh where the number of classes differs.

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
    if file.architecture != architecture:
        raise CheckpointError(
            f"{init} is a {file.architecture}, the recipe trains a {architecture}. "
            f"Use --set model.name={file.architecture}."
        )
    state, own = _at_size_of(target, file, name=str(init)), model.state_dict()
    if file.num_classes != target.num_classes:
        prefix = target.pretrained_cfg["classifier"] + "."
        state |= {name: tensor for name, tensor in own.items() if name.startswith(prefix)}
        say(f"{init} knows {file.num_classes} classes, this run {target.num_classes}: the classifier starts afresh.")
    else:
        say(f"Starting from {init}.")
    problems = [f"  {name}: missing in the file" for name in own if name not in state]
    problems += [f"  {name}: not in the model" for name in state if name not in own]
    problems += [
        f"  {name}: file {tuple(state[name].shape)}, model {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        raise CheckpointError(f"{init} does not fit {architecture}:\n" + "\n".join(problems))
    model.load_state_dict(state)


def _at_size_of(model: Any, file: checkpoint.Checkpoint, *, name: str) -> dict[str, Any]:
    """The file's tensors, with position tables for the model's picture size."""
    size = file.model_args.get("img_size")
    if size is None or tuple(size) == tuple(model.img_size):
        return dict(file.state)
    donor: Any = checkpoint.build(file, name=name)
    donor.set_input_size(model.img_size)
    return donor.state_dict()
