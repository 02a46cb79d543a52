"""What a method found: a map on the picture, what it shows, and what the model says of the picture.

h heads, r rows and c columns of a grid, H rows and W columns of the picture.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from hybridvit.attribution.geometry import Axes, View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Method = Literal["attention", "rollout", "gradcam", "gradients", "occlusion"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A map, what it shows, and what the model says about the picture."""

    method: Method
    title: str
    """What is shown, in words."""
    unit: str
    """What a value of the map means."""
    map_hrc: np.ndarray
    """The map on the model's own grid, per head; one "head" where the method knows none."""
    axes: Axes
    """Where that grid lies in the input."""
    view: View
    query: tuple[float, float] | None
    """x and y of the point that was looked from, in pixels of the picture."""
    label: int
    """The class that was asked about; by default the model's answer."""
    class_names: tuple[str, ...]
    probabilities: np.ndarray
    """Of all classes."""

    @cached_property
    def heat(self) -> np.ndarray:
        """The map on the picture, heads averaged; 0 where the model's crop left the picture out. Shape: (H, W)."""
        return self.view.to_picture(self.map_hrc.mean(axis=0), self.axes)

    @property
    def heads(self) -> np.ndarray:
        """The map of each head on the picture. Shape: (h, H, W)."""
        return self.view.to_picture(self.map_hrc, self.axes)

    @property
    def is_signed(self) -> bool:
        """Whether values below zero speak against the class."""
        return self.method in ("gradients", "occlusion")

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k most probable classes, by name."""
        return [(self.class_names[i], float(self.probabilities[i])) for i in np.argsort(-self.probabilities)[:k]]

    def sized(self, side: int) -> "Explanation":
        """The same on a picture whose longer side has about `side` pixels."""
        other = self.view.sized(side)
        (height, width), (rows, columns) = self.view.size, other.size
        query = self.query and (
            (self.query[0] + 0.5) * columns / width - 0.5,
            (self.query[1] + 0.5) * rows / height - 0.5,
        )
        return replace(self, view=other, query=query)

    def figure(self) -> "Figure":
        """Picture and map, side by side. Needs matplotlib (the extra viz)."""
        from hybridvit.attribution.draw import overlay

        return overlay(self)
