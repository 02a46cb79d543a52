import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from hybridvit.deploy.fuse import ABSORBED, RULES, fuse
from hybridvit.deploy.fused import Chunk
from hybridvit.errors import ConfigError
from hybridvit.kernels import layers
from hybridvit.kernels.state import portable_kernels
from hybridvit.models import catalog, cmt, cvt, position
from hybridvit.models.backbone import Backbone

MakeModel = Callable[..., Backbone]


SMALL_CMT: dict[str, Any] = {"dims": (16, 24, 32, 40), "depths": (1, 1, 2, 1), "stem_width": 8, "head_width": 48}
FLAVOURS: dict[str, tuple[str, dict[str, Any]]] = {
    "cvt authors": ("cvt_nano", {}),
    "cvt gelu": ("cvt_13_gelu", {"dims": (16, 48, 96), "depths": (1, 1, 2)}),
    "cvt pooled": ("cvt_nano", {"global_pool": "avg"}),
    "cvt tokens": ("cvt_nano", {"global_pool": "", "num_classes": 0}),
    "cmt authors": ("cmt_ti", SMALL_CMT),
    "cmt without reduction": ("cmt_nano", {}),
    "cmt flyegle": ("cmt_ti_flyegle", SMALL_CMT),
    "cmt flyegle pe_nd, ape": ("cmt_ti_flyegle", {**SMALL_CMT, "position": "dense", "absolute_position": True}),
    "cmt flyegle bare": ("cmt_ti_flyegle", {**SMALL_CMT, "position": None, "qkv_bias": False}),
    "cmt kecam": ("cmt_ti_kecam", SMALL_CMT),
    "cmt kecam features": ("cmt_ti_kecam", {**SMALL_CMT, "num_classes": 0}),
    "cmt kecam_port": ("cmt_ti_kecam_port", SMALL_CMT),
    "cmt mindcv": ("cmt_ti_mindcv", SMALL_CMT),
    "cmt features": ("cmt_nano", {"num_classes": 0}),
    "cmt map": ("cmt_nano", {"global_pool": ""}),
}


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference, in units of the largest value."""
    assert one.shape == other.shape
    return ((one - other).abs().max() / one.abs().max()).item()


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("size", [(64, 64), (71, 98)])
@torch.no_grad()
def test_a_fused_model_gives_the_plain_ones_answer(flavour: str, size: tuple[int, int], make_model: MakeModel) -> None:
    name, kwargs = FLAVOURS[flavour]
    model = make_model(name, img_size=64, **kwargs).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert difference(model(x), fuse(model)(x)) < 1e-12


@pytest.mark.parametrize("name", ["cvt_nano", "cmt_nano"])
@torch.no_grad()
def test_in_float32_the_fast_kernels_and_the_portable_ones_agree(name: str, make_model: MakeModel) -> None:
    model = make_model(name)
    fused = fuse(model)
    x = torch.randn(5, 3, 40, 32)
    with portable_kernels():
        portable = fused(x)
    assert difference(portable, fused(x)) < 1e-5
    assert difference(model(x), fused(x)) < 1e-5


@pytest.mark.parametrize("name", ["cvt_nano", "cmt_nano"])
@pytest.mark.parametrize("chunk", [Chunk(1, 1), Chunk(2, 2), Chunk(3, 0), Chunk(8, 2)])
@torch.no_grad()
def test_cutting_the_batch_changes_no_answer(name: str, chunk: Chunk, make_model: MakeModel) -> None:
    fused = fuse(make_model(name).double())
    x = torch.randn(5, 3, 32, 32, dtype=torch.float64)
    fused.chunk = Chunk(pictures=5, stages=2)
    whole = fused(x)
    fused.chunk = chunk
    assert difference(whole, fused(x)) < 1e-12


@torch.no_grad()
def test_the_same_answer_comes_again_at_other_sizes_and_batches(make_model: MakeModel) -> None:
    """What is remembered for one grid or shape must not reach another."""
    model = make_model("cmt_nano")
    fused = fuse(model)
    for shape in [(1, 32, 32), (3, 48, 32), (2, 32, 48), (1, 32, 32), (4, 33, 47), (3, 48, 32)]:
        x = torch.randn(shape[0], 3, *shape[1:])
        assert difference(model(x), fused(x)) < 1e-5


@torch.no_grad()
def test_fusing_leaves_the_model_as_it_was(make_model: MakeModel) -> None:
    model = make_model("cmt_nano")
    before = copy.deepcopy(model.state_dict())
    fused = fuse(model)
    fused(torch.randn(1, 3, 32, 32))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not [module for module in fused.modules() if isinstance(module, nn.BatchNorm2d | nn.Dropout)]


@torch.no_grad()
def test_a_fused_model_can_be_copied_pickled_and_cast(make_model: MakeModel) -> None:
    fused = fuse(make_model("cvt_nano"))
    x = torch.randn(2, 3, 32, 32)
    expected = fused(x)
    assert torch.equal(copy.deepcopy(fused)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(fused))(x), expected)
    assert difference(fused.double()(x.double()), expected.double()) < 1e-5
    assert difference(fused.to(torch.bfloat16)(x.to(torch.bfloat16)).float(), expected) < 0.1


@torch.no_grad()
def test_bfloat16_weights_are_folded_before_they_are_rounded(make_model: MakeModel) -> None:
    model = make_model("cmt_nano").to(torch.bfloat16)
    fused = fuse(model)
    assert {buffer.dtype for buffer in fused.buffers() if buffer.is_floating_point()} == {torch.bfloat16}
    assert fused(torch.randn(1, 3, 32, 32).to(torch.bfloat16)).dtype == torch.bfloat16


def test_every_block_has_a_rule_or_a_reason() -> None:
    blocks = {
        value
        for module in (cmt, cvt, layers, position)
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == module.__name__
    }
    assert blocks == RULES.keys() | ABSORBED.keys()
    assert not RULES.keys() & ABSORBED.keys()


@pytest.mark.parametrize("name", catalog.ARCHITECTURES)
def test_every_module_of_the_catalogue_is_of_a_known_kind(name: str) -> None:
    """A new block in a model must get a rule before it can be fused unnoticed."""
    known = {*RULES, *ABSORBED, nn.Conv2d, nn.Linear, nn.LayerNorm, nn.BatchNorm2d, nn.GELU, nn.SiLU, nn.Dropout}
    known |= {nn.Identity, nn.Sequential, nn.ModuleList}
    with torch.device("meta"):
        model = catalog.create(name)
    names = {kind.__name__ for kind in known} | {"LayerNorm2d", "DropPath"}
    assert {type(module).__name__ for module in model.modules()} <= names


def test_a_fused_model_stays_fused(make_model: MakeModel) -> None:
    fused = fuse(make_model("cvt_nano"))
    assert fuse(fused) is fused


def test_what_cannot_be_fused_is_named() -> None:
    with pytest.raises(ConfigError, match=r"FeatureGetterNet.*features_only"):
        fuse(catalog.create("cvt_nano", features_only=True))


@torch.no_grad()
def test_a_picture_too_small_is_refused_as_the_plain_model_does(make_model: MakeModel) -> None:
    with pytest.raises(ConfigError, match="too small"):
        fuse(make_model("cmt_nano"))(torch.randn(1, 3, 8, 8))
