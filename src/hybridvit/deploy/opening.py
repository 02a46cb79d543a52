"""The door for every file that answers: weights of any source, and exports."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from hybridvit.deploy import engines
from hybridvit.deploy.formats import is_export
from hybridvit.errors import CheckpointError
from hybridvit.weights import load as weights


def load(
    path: str | Path, *, device: str | torch.device = "cpu", allow_non_finite: bool = False, trusted: bool = False
) -> nn.Module:
    """The model in a file, in eval mode: a file of ours, a folder in timm's layout, any published file, or an export.

    It carries preprocess, label_names, num_classes, task and pretrained_cfg; weights also recipe, origin and metrics. An export
    (.onnx, .xml, .pt2) is an Engine: called with a batch on the CPU it gives logits, and it has no weights to train.

    Args:
        device: of weights.
        allow_non_finite: open weights that are NaN or infinite all the same, to look at them.
        trusted: open .pt2 files, too, which can run any code.

    Raises: CheckpointError when the file is missing, damaged or none of these, when tensors do not fit (all are listed), when
        weights are not finite, and for a .pt2 file that is not trusted; ConfigError without the library of an export.
    """
    if not is_export(path):
        return weights.load(path, device=device, allow_non_finite=allow_non_finite)
    if str(path).endswith(".pt2") and not trusted:
        raise CheckpointError(
            f"{path} is a program of torch.export, and opening it can run any code. If you know who wrote it: "
            f"hybridvit.load(path, trusted=True). Files of ONNX and OpenVINO need no trust."
        )
    model: Any = engines.open_export(path)
    return model
