"""Begin from weights instead of from chance."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from hybridvit.errors import CheckpointError
from hybridvit.weights import checkpoint


def start_from(model: nn.Module, path: Path, *, say: Callable[[str], None]) -> None:
    """Load a checkpoint into `model`, leaving the classifier fresh where the number of classes differs.

    Raises:
        CheckpointError: another architecture, or any other tensor is missing, left over, or of another shape.
    """
    file = checkpoint.read(path)
    cfg: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    architecture = cfg["architecture"]
    if file.architecture != architecture:
        raise CheckpointError(
            f"{path} is a {file.architecture}, the recipe trains a {architecture}. "
            f"Use --set model.name={file.architecture}."
        )
    state = dict(file.state)
    own = model.state_dict()
    if file.num_classes != model.num_classes:
        prefix = cfg["classifier"] + "."
        state |= {name: tensor for name, tensor in own.items() if name.startswith(prefix)}
        say(f"{path} knows {file.num_classes} classes, this run {model.num_classes}: the classifier starts afresh.")
    else:
        say(f"Starting from {path}.")
    problems = [f"  {name}: missing in the file" for name in own if name not in state]
    problems += [f"  {name}: not in the model" for name in state if name not in own]
    problems += [
        f"  {name}: file {tuple(state[name].shape)}, model {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        raise CheckpointError(f"{path} does not fit {architecture}:\n" + "\n".join(problems))
    model.load_state_dict(state)
