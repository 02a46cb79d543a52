"""softmax(q k^T) v: one function, three ways to compute it, and a way to compare them.

`scaled_dot_product_attention` never shows its weights, so whoever needs the maps, or an oracle for the fused kernels, asks for
the written-out form:

    with explicit_attention():
        model(x)

Or has the weights handed over, computed once more beside the kernel, so that the result stays the same to the last bit:

    with recorded_attention(maps.append):
        model(x)

Both hold in the thread that asks, and in no other.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridvit.kernels import tiles
from hybridvit.kernels.state import is_differentiated_forwards, is_eager, is_plain
from hybridvit.models.position import Bias, ResizedBias

_explicit: ContextVar[bool] = ContextVar("explicit", default=False)
_recorder: ContextVar[Callable[[Tensor], None] | None] = ContextVar("recorder", default=None)


@contextmanager
def explicit_attention() -> Iterator[None]:
    """Within this block every attention is computed as written in the papers, with its weights materialised."""
    token = _explicit.set(True)
    try:
        yield
    finally:
        _explicit.reset(token)


@contextmanager
def recorded_attention(recorder: Callable[[Tensor], None]) -> Iterator[None]:
    """Within this block `recorder` is given each attention's weights (B, h, N, M), in the order of computing, detached."""
    token = _recorder.set(recorder)
    try:
        yield
    finally:
        _recorder.reset(token)


def attend(
    q_BhNd: Tensor,
    k_BhMd: Tensor,
    v_BhMd: Tensor,
    *,
    scale: float,
    bias: Bias | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(q k^T * scale + bias) v, heads joined.

    Shape: q (B, h, N, d), k and v (B, h, M, d), bias broadcastable to (B, h, N, M) -> (B, N, h * d).
    """
    few_keys = is_plain(q_BhNd) and k_BhMd.shape[2] <= k_BhMd.shape[3]  # weights are smaller than queries
    bias_hNM: Tensor | None = None
    if isinstance(bias, Tensor):
        bias_hNM = bias.to(q_BhNd.dtype)  # autocast leaves parameters in float32; the kernels want one dtype
    elif bias is not None and is_eager(q_BhNd) and q_BhNd.device.type == "cpu":
        q_BhNd, k_BhMd, scale = (*_with_bias(q_BhNd * scale, k_BhMd, bias), 1.0)
    elif bias is not None:
        bias_hNM = bias.written_out().to(q_BhNd.dtype)
    recorder = _recorder.get()
    if recorder is not None:
        recorder(_weights(q_BhNd, k_BhMd, scale, bias_hNM).detach())
    if few_keys or _explicit.get() or is_differentiated_forwards():
        y_BhNd = F.dropout(_weights(q_BhNd, k_BhMd, scale, bias_hNM), dropout) @ v_BhMd
    elif not dropout and tiles.attention_is_better(q_BhNd, k_BhMd, bias_hNM):
        bias_hNM = None if bias_hNM is None else bias_hNM.expand(q_BhNd.shape[1], -1, -1)
        y_BhNd = tiles.attention(q_BhNd, k_BhMd, v_BhMd, scale, bias_hNM)
    else:
        channels = v_BhMd.shape[3]
        if q_BhNd.shape[3] > channels:  # torch's kernel that keeps no weights wants all of one width
            v_BhMd = F.pad(v_BhMd, (0, q_BhNd.shape[3] - channels))
        y_BhNd = F.scaled_dot_product_attention(
            q_BhNd, k_BhMd, v_BhMd, attn_mask=bias_hNM, dropout_p=dropout, scale=scale
        )[..., :channels]
    return y_BhNd.transpose(1, 2).flatten(2)


def _with_bias(q_BhNd: Tensor, k_BhMd: Tensor, bias: ResizedBias) -> tuple[Tensor, Tensor]:
    """Queries and keys with as many channels more as the bias has factors: their product then contains it."""
    queries_hNm, keys_Mm = bias.queries_hNm.to(q_BhNd.dtype), bias.keys_mM.t().to(k_BhMd.dtype)
    return (
        torch.cat((q_BhNd, queries_hNm.expand(len(q_BhNd), -1, -1, -1)), dim=3),
        torch.cat((k_BhMd, keys_Mm.expand(*k_BhMd.shape[:2], -1, -1)), dim=3),
    )


def _weights(q_BhNd: Tensor, k_BhMd: Tensor, scale: float, bias_hNM: Tensor | None) -> Tensor:
    """softmax(q k^T * scale + bias). Shape: -> (B, h, N, M)."""
    score_BhNM = q_BhNd @ (k_BhMd * scale).transpose(-2, -1)
    if bias_hNM is not None:
        score_BhNM = score_BhNM.add_(bias_hNM)
    return score_BhNM.softmax(dim=-1)


def split_heads(x_BNC: Tensor, heads: int) -> Tensor:
    """(B, N, h * d) -> (B, h, N, d), a view."""
    return x_BNC.unflatten(2, (heads, -1)).transpose(1, 2)
