"""What a CvT and a CMT can be: the sizes, and every difference between the published implementations.

A foreign quirk is a fact about a model. It is a field here, with its source; converters only rename.
Sources: microsoft/CvT, lib/models/cls_cvt.py; huggingface/transformers, modeling_cvt.py; huawei-noah/Efficient-AI-Backbones,
cmt_pytorch/cmt.py (CMT's authors); FlyEgle/CMT-pytorch, model/Transformers/CMT/cmt.py; leondgarse/keras_cv_attention_models
("kecam"), cmt/cmt.py; mindspore-lab/mindcv, mindcv/models/cmt.py.
"""

from dataclasses import dataclass
from typing import Literal

from hybridvit.models.position import PositionKind


@dataclass(frozen=True, kw_only=True)
class CvTConfig:
    """One size and one arithmetic of CvT. The defaults are the authors'."""

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    embed_kernels: tuple[int, ...] = (7, 3, 3)
    embed_strides: tuple[int, ...] = (4, 2, 2)
    embed_paddings: tuple[int, ...] = (2, 1, 1)
    mlp_ratio: float = 4.0
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    """The authors: x * sigmoid(1.702 x). transformers, modeling_cvt.py: the exact GELU, with the same weights."""
    drop_path: Literal["branch", "transformers"] = "branch"
    """The authors drop each branch, at rates that rise with the block. transformers gives every block of stage s the rate of
    block s, and drops the MLP's branch after its residual was added. Only training differs."""


@dataclass(frozen=True, kw_only=True)
class CMTConfig:
    """One size and one arithmetic of CMT. The defaults are the authors'."""

    stem_width: int
    dims: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...] = (1, 2, 4, 8)
    reductions: tuple[int, ...] = (8, 4, 2, 1)
    """The key grid of each stage is its query grid divided by this."""
    ffn_ratio: float = 4.0
    head_width: int = 1280
    head_dropout: float = 0.1
    """Before the classifier. The authors' B uses 0.3."""

    qkv_bias: bool = True
    """FlyEgle offers both, kecam's own has none."""
    proj_bias: bool = True
    """kecam's own has none."""
    reduce: Literal["depthwise_bn", "depthwise_ln", "dense_ln"] = "depthwise_bn"
    """How keys and values are made coarser: convolution and norm. kecam: depthwise, LayerNorm. FlyEgle: dense, LayerNorm."""
    position: PositionKind | None = "table"
    """See position.py. FlyEgle: offsets (rpe), dense (pe_nd) or None; kecam's own: head_offsets."""
    absolute_position: bool = False
    """FlyEgle's ape: a table added to the first stage's tokens."""
    position_init: Literal["normal", "trunc_normal", "zeros"] = "normal"
    """The authors: normal, 1. FlyEgle: truncated normal, 0.2. kecam, MindCV: zeros (MindCV never trains them)."""
    embed_norm: bool = True
    """LayerNorm behind each 2x2 convolution. FlyEgle has none."""
    embed_eps: float = 1e-5
    block_eps: float = 1e-6
    """LayerNorm within blocks. FlyEgle, kecam: 1e-5. MindSpore's default, which MindCV takes everywhere: 1e-7."""
    gelu: Literal["none", "tanh"] = "none"
    """MindSpore's GELU approximates with tanh unless told otherwise, and MindCV does not tell it."""
    local_residual: Literal["inside", "outside"] = "inside"
    """The middle of the feed-forward network. The authors, kecam: BN(GELU(dw(x) + x)). FlyEgle: x + BN(GELU(dw(x)))."""
    head: Literal["conv_bn_silu", "conv_gelu_bn", "linear"] = "conv_bn_silu"
    """kecam's own: GELU before BatchNorm. FlyEgle: pooling, then a linear layer without activation."""
    attn_drop_rate: float = 0.0
    proj_drop_rate: float = 0.0
    """FlyEgle: 0.1 and 0.1."""
    ffn_drop: bool = True
    """Whether `proj_drop_rate` also applies within the feed-forward network: the authors yes, FlyEgle no."""
    attn_drop_path: bool = True
    """FlyEgle drops only the feed-forward branch."""
    drop_path_end: Literal["last", "beyond"] = "last"
    """Stochastic depth rises linearly to the full rate at the last block; kecam's reaches it one block later."""
    zero_conv_bias: bool = True
    """FlyEgle leaves the convolutions' biases as the framework draws them."""
