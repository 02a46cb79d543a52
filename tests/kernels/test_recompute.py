"""GELU and BatchNorm of which training keeps one map in three: the same bits, less memory."""

import copy

import pytest
import torch
from torch import Tensor, nn

from hybridvit.kernels import layers, recompute
from hybridvit.kernels.recompute import act_norm
from hybridvit.kernels.state import portable_kernels
from hybridvit.models import catalog
from support import pictures, randomise, relative_error


@pytest.fixture(autouse=True)
def small_maps_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recompute, "LEAST_NUMBERS", 1)


def trained_once(model: nn.Module, x: Tensor) -> list[Tensor]:
    model(x).square().sum().backward()
    return [*(parameter.grad for parameter in model.parameters()), *model.buffers()]


@pytest.mark.parametrize("name", ["cmt_nano", "cmt_ti_flyegle", "cmt_ti_mindcv"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_and_statistics_have_the_same_bits(
    name: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {} if name == "cmt_nano" else {"dims": (8, 16, 24, 32), "depths": (1, 1, 1, 1), "proj_drop_rate": 0.0}
    plain = randomise(catalog.create(name, num_classes=5, img_size=64, drop_rate=0.0, attn_drop_rate=0.0, **small))
    plain = plain.float().train()
    saving = copy.deepcopy(plain)
    saving.set_grad_checkpointing(checkpointing)
    x = pictures(2, 64, 72).float()
    found = trained_once(saving, x)
    monkeypatch.setattr(recompute, "LEAST_NUMBERS", 1e18)
    assert all(torch.equal(a, b) for a, b in zip(found, trained_once(plain, x), strict=True))


def test_two_of_three_maps_are_not_kept() -> None:
    block = catalog.create("cmt_nano").stages[0].blocks[0].ffn.train()
    x = torch.randn(2, block.expand.conv.in_channels, 16, 16).contiguous(memory_format=torch.channels_last)

    def kept_numbers() -> int:
        kept: dict[int, int] = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: kept.update({tensor.data_ptr(): tensor.numel()}) or tensor, lambda tensor: tensor
        ):
            block(x.clone().requires_grad_())
        return sum(kept.values())

    hidden = block.expand.conv.out_channels * 2 * 16 * 16
    saving = kept_numbers()
    with portable_kernels():
        assert kept_numbers() - saving >= 3.9 * hidden


def test_gelu_then_batchnorm_has_two_derivatives_and_its_own_momentum() -> None:
    torch.manual_seed(0)
    act, norm = layers.GELU(), layers.BatchNorm2d(3, momentum=None).double().train()
    x = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    twin = copy.deepcopy(norm)
    for _ in range(2):
        assert torch.equal(act_norm(x, act, norm), twin(act(x)))
    assert all(torch.equal(a, b) for a, b in zip(norm.buffers(), twin.buffers(), strict=True))
    inputs = (x, *norm.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: act_norm(x, act, norm), inputs)
    assert torch.autograd.gradgradcheck(lambda x, *_: act_norm(x, act, norm), inputs)


@pytest.mark.parametrize("of", ["act", "norm"])
def test_hooks_on_either_layer_are_called(of: str) -> None:
    ffn = catalog.create("cmt_nano").stages[0].blocks[0].ffn.train()
    seen: list[str] = []
    layer = getattr(ffn.expand, of)
    layer.register_forward_hook(lambda *_: seen.append("forward"))
    layer.register_full_backward_hook(lambda *_: seen.append("backward"))
    ffn(torch.randn(2, ffn.expand.conv.in_channels, 8, 8)).sum().backward()
    assert seen == ["forward", "backward"]


def test_gradients_may_be_asked_for_twice() -> None:
    model = catalog.create("cmt_nano", num_classes=5, drop_rate=0.0).train()
    loss = model(torch.randn(2, 3, 32, 32)).square().sum()
    first, second = (torch.autograd.grad(loss, list(model.parameters()), retain_graph=True) for _ in range(2))
    assert all(relative_error(b, a) < 1e-6 or a.norm() < 1e-6 for a, b in zip(first, second, strict=True))
