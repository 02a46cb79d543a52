"""CvT against the installed transformers, with weights of no use to anybody: outputs and the gradient of every parameter."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import CvtConfig, CvtForImageClassification

from hybridvit.compare.align import names_of
from hybridvit.models import catalog
from support import pictures, randomise, relative_error

DEPTHS = {"cvt_13_gelu": (1, 2, 10), "cvt_21_gelu": (1, 4, 16), "cvt_w24_gelu": (1, 2, 3)}  # the last cut short
NEGLIGIBLE = 1e-6  # of the largest gradient: a key's bias has none but for rounding


class WrittenOutBatchNorm(nn.BatchNorm2d):
    """BatchNorm by its formula.

    torch 2.15 on the CPU gives wrong gradients for a batch of one whose input and gradient lie differently in memory, which
    happens in transformers' CvT and not in ours: there, numerical differentiation sides with ours.
    """

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x_BCHW)
        centred = x_BCHW - x_BCHW.mean(dim=(0, 2, 3), keepdim=True)
        scaled = centred * (centred.square().mean(dim=(0, 2, 3), keepdim=True) + self.eps).rsqrt()
        return scaled * self.weight[:, None, None] + self.bias[:, None, None]


def pair(name: str) -> tuple[Any, Any]:
    """Theirs and ours, with the same weights; ours took them through the conversion table."""
    config = catalog.ARCHITECTURES[name].config
    torch.manual_seed(0)
    theirs = CvtForImageClassification(
        CvtConfig(
            embed_dim=list(config.dims),
            num_heads=list(config.heads),
            depth=list(DEPTHS[name]),
            drop_path_rate=[0.0, 0.0, 0.0],
            num_labels=17,
        )
    )
    randomise(theirs)
    ours = catalog.create(name, num_classes=17, depths=DEPTHS[name]).double()
    ours.load_state_dict(names_of("transformers", ours)(theirs.state_dict()))
    return theirs, ours


def gradients(model: Any, logits: Tensor) -> dict[str, Tensor]:
    cotangent = torch.linspace(-1, 1, logits.numel(), dtype=torch.float64).sin().reshape(logits.shape)
    (logits * cotangent).sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    ("name", "batch", "height", "width"),
    [
        ("cvt_13_gelu", 2, 35, 64),
        ("cvt_13_gelu", 1, 47, 81),
        ("cvt_21_gelu", 1, 96, 33),
        ("cvt_w24_gelu", 1, 33, 46),
    ],
)
def test_logits_and_every_gradient_equal_transformers(name: str, batch: int, height: int, width: int) -> None:
    theirs, ours = pair(name)
    if batch == 1:
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.__class__ = WrittenOutBatchNorm
    x = pictures(batch, height, width)
    with torch.no_grad():
        assert relative_error(ours.eval()(x), theirs.eval()(x).logits) < 1e-9
    expected, found = theirs.train()(x).logits, ours.train()(x)
    assert relative_error(found, expected) < 1e-9

    expected_gradients = names_of("transformers", ours)(gradients(theirs, expected))
    found_gradients = gradients(ours, found)
    assert found_gradients.keys() == expected_gradients.keys()
    floor = NEGLIGIBLE * max(float(gradient.norm()) for gradient in expected_gradients.values())
    for key, gradient in expected_gradients.items():
        error = float((found_gradients[key] - gradient).norm()) / max(float(gradient.norm()), floor)
        assert error < 1e-9, key


def test_batchnorm_statistics_move_as_in_transformers() -> None:
    theirs, ours = pair("cvt_13_gelu")
    x = pictures(2, 40, 56)
    theirs.train()(x)
    ours.train()(x)
    expected = names_of("transformers", ours)(theirs.state_dict())
    for key, tensor in ours.state_dict().items():
        assert torch.allclose(tensor.double(), expected[key].double(), rtol=1e-9, atol=1e-12), key


def test_the_authors_arithmetic_is_another_one() -> None:
    theirs, ours = pair("cvt_13_gelu")
    authors = catalog.create("cvt_13", num_classes=17).double().eval()
    authors.load_state_dict(ours.state_dict())
    x = pictures(1, 64, 64)
    with torch.no_grad():
        assert relative_error(authors(x), theirs.eval()(x).logits) > 1e-6
