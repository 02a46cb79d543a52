"""Plain model in, the same function from fewer and faster kernels out."""

import copy
from typing import Any

import torch
from torch import nn

from hybridvit.deploy import fused_cmt, fused_cvt
from hybridvit.deploy.fused import Fused
from hybridvit.errors import ConfigError
from hybridvit.kernels import layers
from hybridvit.models import cmt, cvt
from hybridvit.models.position import PositionBias

RULES: dict[type[nn.Module], type[nn.Module]] = {
    cmt.CMT: fused_cmt.FusedCMT,
    cmt.Stage: fused_cmt.Stage,
    cmt.Block: fused_cmt.Block,
    cmt.LightweightAttention: fused_cmt.LightweightAttention,
    cmt.InvertedResidualFFN: fused_cmt.InvertedResidualFFN,
    cmt.Head: fused_cmt.Head,
    PositionBias: fused_cmt.Baked,
    cvt.CvT: fused_cvt.FusedCvT,
    cvt.Stage: fused_cvt.Stage,
    cvt.Block: fused_cvt.Block,
    cvt.Attention: fused_cvt.Attention,
    cvt.Mlp: fused_cvt.Mlp,
}
"""What becomes of each block."""

ABSORBED: dict[type[nn.Module], str] = {
    cmt.ConvActNorm: "its BatchNorm folds into the convolution that follows, or that it follows: Stem, InvertedResidualFFN",
    cmt.PatchAggregation: "takes over the stem's last BatchNorm: Stage",
    cmt.KeyValueReduction: "its BatchNorm folds; LayerNorm stays: LightweightAttention",
    cmt.LocalConv: "its residual joins the kernel, its BatchNorm the next convolution: InvertedResidualFFN",
    cvt.ConvEmbed: "a convolution and a LayerNorm: Stage",
    cvt.ConvProjection: "its BatchNorm folds into the depthwise convolution: Attention",
    layers.Linear: "a 1x1 convolution, wherever it stands",
    layers.Pointwise: "the same",
    layers.BatchNorm2d: "folds into the convolution before or behind it",
    layers.GELU: "joins the convolution before it",
    layers.ResidualDepthwise: "one convolution, as it was: Block, InvertedResidualFFN",
    layers.QuickGELU: "is silu, its constants in the layers around it: Mlp",
}
"""Blocks without a fused form of their own, and what takes them over."""

_WHOLE_MODELS: dict[type[nn.Module], Any] = {cmt.CMT: fused_cmt.FusedCMT, cvt.CvT: fused_cvt.FusedCvT}


def is_fusible(model: nn.Module) -> bool:
    """Whether it is a CvT or CMT with its head."""
    return type(model) in _WHOLE_MODELS


@torch.inference_mode(False)
@torch.no_grad()
def fuse(model: nn.Module) -> Fused:
    """A copy for inference with every BatchNorm folded, on the same device and in the same type; the model stays as it is.

    The arithmetic is exact (float64: to 1e-9); constants are folded in float64. Weights of `model` changed afterwards are not
    seen. Safe to call from several threads. A fused model is returned as it is. Its own weights may be changed by
    load_state_dict and by in-place arithmetic, which torch counts, but not through `.data`: layouts made for oneDNN would not
    notice, and comparing all weights would cost a fifth of a picture's time.

    Raises: ConfigError for anything but a CvT or CMT with its head.
    """
    if isinstance(model, Fused):
        return model
    if not is_fusible(model):
        raise ConfigError(f"Only CvT and CMT models can be fused, not {type(model).__name__}. Take features_only off.")
    parameter = next(model.parameters())
    device, dtype = parameter.device, parameter.dtype
    plain: Any = copy.deepcopy(model).to(device="cpu", dtype=torch.float64).eval()
    fused = _WHOLE_MODELS[type(model)](plain).to(device=device, dtype=dtype).eval().requires_grad_(False)
    for name in ("architecture", "pretrained_cfg", "num_classes", "in_chans", "preprocess", "label_names", "task"):
        if hasattr(model, name):
            setattr(fused, name, getattr(model, name))
    return fused
