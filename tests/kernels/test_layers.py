"""The faster layers against torch's own: values, gradients, gradients of gradients, and what they may overwrite."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hybridvit.kernels import layers, products, tiles
from hybridvit.kernels.state import overwrites, portable_kernels
from hybridvit.models import catalog
from hybridvit.models.attention import attend, explicit_attention
from support import relative_error


@pytest.fixture(autouse=True)
def slow_mkl(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of processors for which oneDNN is the faster library, whatever runs the tests."""
    monkeypatch.setattr(products, "_mkl_is_slow", lambda: True)
    monkeypatch.setattr(products, "LEAST_PRODUCTS", 0)
    monkeypatch.setattr(tiles, "LEAST_WEIGHTS", 0)
    monkeypatch.setattr(tiles, "TILE", 300)  # not a divisor: the last tile is shorter


def twins(ours: nn.Module, torchs: nn.Module) -> tuple[nn.Module, nn.Module]:
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


@pytest.mark.parametrize("shape", [(2, 7, 24), (1, 1, 24), (3, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_have_the_values_and_gradients_of_torchs(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    ours, torchs = twins(layers.Linear(24, 40, bias=bias), nn.Linear(24, 40, bias=bias))
    x, y = (torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    found, expected = ours(x), torchs(y)
    assert relative_error(found, expected) < 1e-6
    for output in (found, expected):
        output.square().sum().backward()
    assert relative_error(x.grad, y.grad) < 1e-6
    for a, b in zip(ours.parameters(), torchs.parameters(), strict=True):
        assert relative_error(a.grad, b.grad) < 1e-6


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_pointwise_convolutions_have_the_values_and_gradients_of_torchs(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    ours, torchs = twins(layers.Pointwise(24, 40), nn.Conv2d(24, 40, 1))
    x = torch.randn(2, 24, 5, 6).contiguous(memory_format=memory_format).requires_grad_()
    y = x.detach().clone().requires_grad_()
    found, expected = ours(x), torchs(y)
    assert relative_error(found, expected) < 1e-6
    for output in (found, expected):
        output.square().sum().backward()
    assert relative_error(x.grad, y.grad) < 1e-6
    for a, b in zip(ours.parameters(), torchs.parameters(), strict=True):
        assert relative_error(a.grad, b.grad) < 1e-6


def test_a_linear_layer_has_the_gradient_of_the_gradient() -> None:
    torch.manual_seed(0)
    ours, torchs = twins(layers.Linear(5, 4), nn.Linear(5, 4))
    x = torch.randn(2, 3, 5, requires_grad=True)
    found, expected = (
        torch.autograd.grad(
            torch.autograd.grad(layer(x).pow(3).sum(), x, create_graph=True)[0].square().sum(), [x, layer.weight]
        )
        for layer in (ours, torchs)
    )
    for a, b in zip(found, expected, strict=True):
        assert relative_error(a, b) < 1e-5


def test_only_wanted_gradients_are_computed() -> None:
    layer = layers.Linear(5, 4)
    layer.weight.requires_grad_(False)
    layer(torch.randn(2, 3, 5)).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is not None


def test_float64_counted_and_cast_products_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Tensor:
        raise AssertionError("computed by oneDNN")

    monkeypatch.setattr(products, "linear", fail)
    layer, x = layers.Linear(5, 4), torch.randn(2, 3, 5)
    with pytest.raises(AssertionError):
        layer(x)
    copy.deepcopy(layer).double()(x.double())
    with torch.autocast("cpu", torch.bfloat16):
        layer(x)
    with FlopCounterMode(display=False) as counter:
        layer(x)
    assert counter.get_total_flops() == 2 * 2 * 3 * 5 * 4


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("batch", [1, 2])
def test_tiled_attention_has_the_values_and_gradients_of_the_written_out_form(
    heads: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(0)
    calls = []
    monkeypatch.setattr(tiles, "attention", lambda *args, tiled=tiles.attention: calls.append(1) or tiled(*args))
    grad = torch.randn(batch, 35, heads * 4, generator=draw)
    inputs = [  # as the models hand them over: views of (B, N, h * d)
        torch.randn(batch, places, heads * 4, generator=draw).requires_grad_() for places in (35, 22, 22)
    ]

    def values_and_gradients(*of_BNC: Tensor) -> list[Tensor]:
        q, k, v = (x.unflatten(2, (heads, 4)).transpose(1, 2) for x in of_BNC)
        y_BNC = attend(q, k, v, scale=0.7)
        return [y_BNC, *torch.autograd.grad(y_BNC, of_BNC, grad.to(y_BNC.dtype))]

    found = values_and_gradients(*inputs)
    assert calls
    with explicit_attention():
        expected = values_and_gradients(*(x.detach().double().requires_grad_() for x in inputs))
    for a, b in zip(found, expected, strict=True):
        assert relative_error(a, b) < 2e-6


def test_attention_with_dropout_or_a_fixed_bias_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "attention", lambda *_: pytest.fail("computed in tiles"))
    q, k = torch.randn(1, 1, 35, 4), torch.randn(1, 1, 22, 4)
    attend(q, k, k, scale=1.0, dropout=0.5)
    attend(q, k, k, scale=1.0, bias=torch.zeros(1, 35, 22))
    attend(q.double(), k.double(), k.double(), scale=1.0)


def test_quick_gelu_has_two_derivatives() -> None:
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert relative_error(layers.QuickGELU()(x), quick_gelu(x)) < 1e-14
    assert torch.autograd.gradcheck(layers.QuickGELU(), x)
    assert torch.autograd.gradgradcheck(layers.QuickGELU(), x)


def within_a_model(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return overwrites(lambda _, x: layer(x))(nn.Identity(), x)


@pytest.mark.parametrize("needs_gradient", [True, False])
def test_what_no_gradient_needs_is_overwritten_and_nothing_else(needs_gradient: bool) -> None:
    torch.manual_seed(0)
    norm, torchs = twins(layers.BatchNorm2d(6), nn.BatchNorm2d(6))
    for layer, plain in (
        (norm.eval(), torchs.eval()),
        (layers.GELU(), nn.GELU()),
        (layers.GELU(approximate="tanh"), nn.GELU(approximate="tanh")),
        (layers.QuickGELU(), quick_gelu),
    ):
        x = torch.randn(2, 6, 4, 5).contiguous(memory_format=torch.channels_last)
        before = x.clone()
        with torch.set_grad_enabled(needs_gradient):
            y = within_a_model(layer, x.requires_grad_(needs_gradient))
        assert relative_error(y.detach(), plain(before).detach()) < 1e-6
        assert torch.equal(x, before) == needs_gradient


def test_a_trainable_norm_behind_frozen_layers_keeps_its_input() -> None:
    norm = layers.BatchNorm2d(6).eval()
    x = torch.randn(2, 6, 4, 5)
    before = x.clone()
    within_a_model(norm, x).sum().backward()
    assert torch.equal(x, before)
    assert norm.weight.grad is not None


def test_a_residual_depthwise_convolution_adds_its_input() -> None:
    torch.manual_seed(0)
    ours = layers.ResidualDepthwise(6).double()
    torchs = nn.Conv2d(6, 6, 3, padding=1, groups=6).double()
    torchs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    found, expected = ours(x), x + torchs(x)
    assert relative_error(found, expected) < 1e-14
    for output in (found, expected):
        output.square().sum().backward()
    assert relative_error(ours.weight.grad, torchs.weight.grad) < 1e-13


@pytest.mark.parametrize("name", ["cvt_nano", "cmt_nano"])
def test_models_compute_in_float32_what_they_compute_with_torchs_own_layers(
    name: str,
) -> None:
    torch.manual_seed(0)
    model = catalog.create(name, num_classes=5, drop_rate=0.0).train()
    x = torch.randn(4, 3, 32, 40)

    def gradients() -> list[Tensor]:
        model.zero_grad()
        model(x).square().sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    fast = gradients()
    with portable_kernels():
        plain = gradients()
    largest = max(gradient.norm() for gradient in plain)
    for a, b in zip(fast, plain, strict=True):
        assert (a - b).norm() < 1e-4 * max(b.norm(), 1e-3 * largest)
