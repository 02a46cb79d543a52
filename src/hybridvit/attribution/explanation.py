"""What a method found: a map on the picture, what it shows, and what the model says of the picture.

Shares of attention are coloured as multiples of an even share, and only where they exceed it: attention that chooses nothing
leaves the picture as it is.

h heads, r rows and c columns of a grid, H rows and W columns of the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from PIL import Image

from hybridvit.attribution.geometry import Axes, View
from hybridvit.evaluation.metrics import most_probable
from hybridvit.render.figures import Panel, Scale, colour, panels, to_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Method = Literal["attention", "rollout", "gradcam", "gradients", "occlusion"]
METHODS: tuple[Method, ...] = get_args(Method)
SIDE = 640
"""Longest side, in pixels, at which pictures are drawn; tiny ones with their pixels enlarged."""


@dataclass(frozen=True)
class Layer:
    """A map in colours."""

    rgba_HW4: np.ndarray
    """uint8, more opaque where there is more: to be laid on the picture."""
    scale: Scale


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
        return [(self.class_names[i], float(self.probabilities[i])) for i in most_probable(self.probabilities, k)]

    def sized(self, side: int) -> "Explanation":
        """The same on a picture whose longer side has about `side` pixels."""
        other = self.view.sized(side)
        (height, width), (rows, columns) = self.view.size, other.size
        query = self.query and (
            (self.query[0] + 0.5) * columns / width - 0.5,
            (self.query[1] + 0.5) * rows / height - 0.5,
        )
        return replace(self, view=other, query=query)

    def layer(self, *, like: Sequence["Explanation"] = ()) -> Layer:
        """The colours of the map. `like`: explanations that must share the scale."""
        every = [self._values(), *(each._values() for each in like)]
        if self.is_signed:
            high = max(float(np.quantile(np.abs(each), 0.998)) for each in every) or 1.0
            scale = Scale(-high, high, self.unit, "RdBu_r")
        elif self._is_share:
            # A scale that ended lower would blow up the ripples of an attention that is nearly even.
            scale = Scale(1.0, max(2.0, *(float(each.max()) for each in every)), "times an even share", "inferno")
        else:
            scale = Scale(0.0, max(float(each.max()) for each in every) or 1.0, self.unit, "inferno")
        position = np.clip((every[0] - scale.low) / (scale.high - scale.low), 0, 1)
        rgba = colour(position, scale)
        rgba[..., 3] = 0.9 * (np.abs(2 * position - 1) if self.is_signed else position) ** 0.6
        return Layer((rgba * 255).round().astype(np.uint8), scale)

    def blend(self, *, like: Sequence["Explanation"] = ()) -> Image.Image:
        """The picture, in grey, under the colours of its map; what the model's crop left out is darkened."""
        grey = np.asarray(self.view.picture.convert("L"), dtype=np.float32)
        base = np.repeat((36 + 0.72 * grey)[..., None], 3, axis=2)
        layer = self.layer(like=like).rgba_HW4
        opacity = layer[..., 3:] / 255
        shade = np.full(grey.shape, 0.5, dtype=np.float32)
        shade[self.view.seen] = 1
        mixed = (base * (1 - opacity) + layer[..., :3] * opacity) * shade[..., None]
        return Image.fromarray(mixed.round().astype(np.uint8))

    def panel(self, *, title: str = "", like: Sequence["Explanation"] = ()) -> Panel:
        """The picture under its map, with the scale, under the map's own words unless a title is given."""
        what, _, how = self.title.partition(" · ")
        scale = self.layer(like=like).scale
        return Panel(self.blend(like=like), title or what, "" if title else how.replace(" · ", ", "), self.query, scale)

    def figure(self) -> "Figure":
        """The picture and what the model says of it, and the map upon it. Needs matplotlib (the extra viz)."""
        small = self.sized(SIDE)
        answer = ", ".join(f"{name} {100 * share:.0f} %" for name, share in self.top(3))
        picture = Panel(small.view.picture, "The model's answer", answer, mark=small.query)
        return panels([picture, small.panel()], columns=2)

    def _repr_png_(self) -> bytes:
        return to_png(self.figure())

    @property
    def _is_share(self) -> bool:
        return self.method in ("attention", "rollout")

    def _values(self) -> np.ndarray:
        """On the picture: shares as multiples of an even one, gradients of single pixels smoothed. Shape: (H, W)."""
        if self._is_share:
            return self.heat * self.map_hrc[0].size
        if self.method == "gradients":
            rows, columns = (_smoothing(side, sigma=max(self.map_hrc.shape) / 64) for side in self.map_hrc.shape[1:])
            return replace(self, map_hrc=rows @ self.map_hrc @ columns.T).heat
        return self.heat


def _smoothing(side: int, *, sigma: float) -> np.ndarray:
    """A Gaussian window around each pixel. Shape: (side, side); rows sum to one."""
    weights = np.exp(-(np.subtract.outer(np.arange(side), np.arange(side)) ** 2) / (2 * sigma**2))
    return weights / weights.sum(axis=1, keepdims=True)
