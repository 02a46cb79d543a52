"""An exported model against the plain one, on pictures."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

TOLERANCES = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 1e-1, "int8": None}
"""Largest difference of two logits that passes, relative to the largest logit; int8 is evaluated by its answers."""
AGREEMENT = 0.99
"""Share of equal answers that int8 must reach."""


@dataclass(frozen=True, kw_only=True)
class Report:
    pictures: int
    largest_difference: float
    """Of any logit, absolute."""
    relative_difference: float
    """The same, in units of the largest logit."""
    agreement: float
    """Share of pictures with the same first class."""
    accuracy: float | None
    """Share of right answers, where labels are given."""
    plain_accuracy: float | None
    """The plain model's."""
    tolerance: float | None
    passed: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        limit = (
            f"allowed {self.tolerance:g}" if self.tolerance is not None else f"agreement of {AGREEMENT:.0%} asked for"
        )
        right = (
            ""
            if self.accuracy is None
            else f"; right on {self.accuracy:.2%}, the plain model on {self.plain_accuracy:.2%}"
        )
        return (
            f"{'agrees' if self.passed else 'DIFFERS'} on {self.pictures} pictures: logits within "
            f"{self.relative_difference:.1e} ({limit}), same first class on {100 * self.agreement:.1f} %{right}"
        )


def compare(expected: Tensor, found: Tensor, *, precision: str, labels: Tensor | None = None) -> Report:
    """Logits (pictures, classes) of the plain model and of another form of it; labels (pictures,)."""
    difference = (expected - found).abs().max().item()
    relative = difference / max(expected.abs().max().item(), 1e-30)
    agreement = (expected.argmax(1) == found.argmax(1)).float().mean().item()
    tolerance = TOLERANCES[precision]
    finite = bool(found.isfinite().all())
    passed = finite and (relative <= tolerance if tolerance is not None else agreement >= AGREEMENT)
    return Report(
        pictures=len(expected),
        largest_difference=difference,
        relative_difference=relative,
        agreement=agreement,
        accuracy=_accuracy(found, labels),
        plain_accuracy=_accuracy(expected, labels),
        tolerance=tolerance,
        passed=passed,
    )


def _accuracy(logits: Tensor, labels: Tensor | None) -> float | None:
    return None if labels is None else (logits.argmax(1) == labels).float().mean().item()


@torch.inference_mode()
def verify(
    model: nn.Module, other: nn.Module, batches: list[Tensor], *, precision: str, labels: Tensor | None = None
) -> Report:
    """Both on the same batches (B, C, H, W)."""
    expected = torch.cat([model(images) for images in batches])
    found = torch.cat([other(images) for images in batches])
    return compare(expected, found, precision=precision, labels=labels)
