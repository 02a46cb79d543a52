"""softmax(q k^T) v: one function, three ways to compute it, one switch to compare them.

`scaled_dot_product_attention` never shows its weights, so whoever needs the maps, or an oracle for the fused kernels, asks for
the written-out form:

    with explicit_attention():
        model(x)

Or has the weights handed over, computed once more beside the kernel, so that the result stays the same to the last bit:

    with recorded_attention(maps.append):
        model(x)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor

from hybridvit.models import onednn

_fused = True
_recorder: Callable[[Tensor], None] | None = None


@contextmanager
def explicit_attention() -> Iterator[None]:
    """Within this block every attention is computed as written in the papers, with its weights materialised."""
    global _fused
    before, _fused = _fused, False
    try:
        yield
    finally:
        _fused = before


@contextmanager
def recorded_attention(recorder: Callable[[Tensor], None]) -> Iterator[None]:
    """Within this block `recorder` is given each attention's weights (B, h, N, M), in the order of computing, detached."""
    global _recorder
    before, _recorder = _recorder, recorder
    try:
        yield
    finally:
        _recorder = before


def attend(
    q_BhNd: Tensor,
    k_BhMd: Tensor,
    v_BhMd: Tensor,
    *,
    scale: float,
    bias_hNM: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(q k^T * scale + bias) v, heads joined.

    Shape: q (B, h, N, d), k and v (B, h, M, d), bias broadcastable to (B, h, N, M) -> (B, N, h * d).
    """
    if bias_hNM is not None:
        bias_hNM = bias_hNM.to(q_BhNd.dtype)  # autocast leaves parameters in float32; the kernels want one dtype
    if _recorder is not None:
        _recorder(_weights(q_BhNd, k_BhMd, scale, bias_hNM).detach())
    few_keys = onednn.is_plain(q_BhNd) and k_BhMd.shape[2] <= k_BhMd.shape[3]  # weights are smaller than queries
    if few_keys or not _fused:
        y_BhNd = F.dropout(_weights(q_BhNd, k_BhMd, scale, bias_hNM), dropout) @ v_BhMd
    elif bias_hNM is None and not dropout and onednn.attention_is_faster(q_BhNd, k_BhMd):
        y_BhNd = onednn.attention(q_BhNd, k_BhMd, v_BhMd, scale)
    else:
        y_BhNd = F.scaled_dot_product_attention(
            q_BhNd, k_BhMd, v_BhMd, attn_mask=bias_hNM, dropout_p=dropout, scale=scale
        )
    return y_BhNd.transpose(1, 2).flatten(2)


def _weights(q_BhNd: Tensor, k_BhMd: Tensor, scale: float, bias_hNM: Tensor | None) -> Tensor:
    """softmax(q k^T * scale + bias). Shape: -> (B, h, N, M)."""
    score_BhNM = q_BhNd @ (k_BhMd * scale).transpose(-2, -1)
    if bias_hNM is not None:
        score_BhNM = score_BhNM.add_(bias_hNM)
    return score_BhNM.softmax(dim=-1)


def split_heads(x_BNC: Tensor, heads: int) -> Tensor:
    """(B, N, h * d) -> (B, h, N, d), a view."""
    return x_BNC.unflatten(2, (heads, -1)).transpose(1, 2)
