"""Figures: a map laid on its picture, heads side by side, stages side by side, models side by side.

Shares of attention are shown as multiples of an even share, and coloured only where they exceed it: attention that chooses
nothing leaves the picture as it is. Pictures are drawn at a size that a page can use, tiny ones with their pixels enlarged.
Needs matplotlib (the extra viz).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from hybridvit.attribution.explanation import Explanation
from hybridvit.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

SIDE = 640
"""Longest side, in pixels, at which pictures are drawn."""
PANEL_INCHES = 3.4
INK, FAINT = "#1f2933", "#7b8794"


@dataclass(frozen=True)
class Shown:
    """The values that a figure shows of an explanation, and what its colours stand for."""

    values_HW: np.ndarray
    low: float
    high: float
    """The values of the first and the last colour."""
    unit: str
    signed: bool

    def layer(self) -> np.ndarray:
        """Colours, more opaque where there is more: to be laid on the picture. Shape: (H, W, 4), uint8, RGBA."""
        position = np.clip((self.values_HW - self.low) / (self.high - self.low), 0, 1)
        colour = colormap(self.signed)(position)
        colour[..., 3] = 0.9 * (np.abs(2 * position - 1) if self.signed else position) ** 0.6
        return (colour * 255).round().astype(np.uint8)


def shown(explanation: Explanation, *, like: Sequence[Explanation] = ()) -> Shown:
    """What a figure shows. `like`: explanations that must share the scale."""
    values = _values(explanation)
    every = [values, *map(_values, like)]
    if explanation.is_signed:
        high = max(float(np.quantile(np.abs(each), 0.998)) for each in every) or 1.0
        return Shown(values, -high, high, explanation.unit, signed=True)
    high = max(float(each.max()) for each in every)
    if _is_share(explanation):
        # A scale that ended lower would blow up the ripples of an attention that is nearly even.
        return Shown(values, 1.0, max(high, 2.0), "times an even share", signed=False)
    return Shown(values, 0.0, high or 1.0, explanation.unit, signed=False)


def _is_share(explanation: Explanation) -> bool:
    return explanation.method in ("attention", "rollout")


def _values(explanation: Explanation) -> np.ndarray:
    """On the picture: shares as multiples of an even one, gradients of single pixels smoothed. Shape: (H, W)."""
    if _is_share(explanation):
        return explanation.heat * explanation.map_hrc[0].size
    if explanation.method == "gradients":
        map_hrc = explanation.map_hrc
        rows, columns = (_smoothing(side, sigma=max(map_hrc.shape) / 64) for side in map_hrc.shape[1:])
        return replace(explanation, map_hrc=rows @ map_hrc @ columns.T).heat
    return explanation.heat


def _smoothing(side: int, *, sigma: float) -> np.ndarray:
    """A Gaussian window around each pixel. Shape: (side, side); rows sum to one."""
    weights = np.exp(-(np.subtract.outer(np.arange(side), np.arange(side)) ** 2) / (2 * sigma**2))
    return weights / weights.sum(axis=1, keepdims=True)


def blend(explanation: Explanation, *, like: Sequence[Explanation] = ()) -> Image.Image:
    """The picture, in grey, under the colours of its map; what the model's crop left out is darkened."""
    rows, columns = explanation.view.seen
    grey = np.asarray(explanation.view.picture.convert("L"), dtype=np.float32)
    base = np.repeat((36 + 0.72 * grey)[..., None], 3, axis=2)
    layer = shown(explanation, like=like).layer()
    opacity = layer[..., 3:] / 255
    shade = np.full(grey.shape, 0.5, dtype=np.float32)
    shade[rows, columns] = 1
    mixed = (base * (1 - opacity) + layer[..., :3] * opacity) * shade[..., None]
    return Image.fromarray(mixed.round().astype(np.uint8))


def overlay(explanation: Explanation) -> "Figure":
    """The picture, what the model says of it, and the map upon it with a colour bar."""
    small = explanation.sized(SIDE)
    figure, (left, right) = _panels(1, 2, small, bars=1)
    left.imshow(small.view.picture.convert("RGB"))
    _title(left, "The model's answer", "    ".join(f"{name} {100 * share:.0f} %" for name, share in small.top(3)))
    _mark(left, small)
    _draw_map(figure, right, small)
    _title(right, *_words(small))
    return figure


def head_grid(explanation: Explanation) -> "Figure":
    """The map of every head, all on one colour scale.

    Raises: ConfigError for a map without heads.
    """
    if len(explanation.map_hrc) == 1:
        raise ConfigError(f"{explanation.title}: one head. A grid takes the attention of a block with several.")
    small = explanation.sized(SIDE // 2)
    heads = [replace(small, map_hrc=map_rc[None]) for map_rc in small.map_hrc]
    columns = min(4, len(heads))
    figure, panels = _panels(-(-len(heads) // columns), columns, small, bars=1)
    for number, (axes, each) in enumerate(zip(panels, heads, strict=False)):
        image = _draw_map(figure, axes, each, like=heads, bar=False)
        _title(axes, f"head {number}", "")
    _bar(figure, image, panels, shown(heads[0], like=heads))
    title, detail = _words(small)
    figure.suptitle(f"{title}, {detail.replace(', mean of the heads', '')}", color=INK, fontsize=11, x=0.01, ha="left")
    return figure


def side_by_side(explanations: Sequence[Explanation], *, titles: Sequence[str] = ()) -> "Figure":
    """Several maps, of stages, methods, models or pictures, each on its own colour scale, under the given titles or their own."""
    small = [each.sized(SIDE) for each in explanations]
    figure, panels = _panels(1, len(small), small[0], bars=len(small))
    for number, (axes, each) in enumerate(zip(panels, small, strict=True)):
        _draw_map(figure, axes, each)
        title, detail = _words(each)
        _title(axes, titles[number] if titles else title, f"{title}, {detail}" if titles else detail)
    return figure


def _panels(rows: int, columns: int, example: Explanation, *, bars: int) -> tuple["Figure", list["Axes"]]:
    try:
        from matplotlib.figure import Figure  # the object interface needs no display
    except ImportError as error:
        raise ConfigError("Figures are drawn with matplotlib: pip install 'hybridvit[viz]'") from error
    height, width = example.view.size
    panel = (PANEL_INCHES * min(1.0, width / height) + 0.15, PANEL_INCHES * min(1.0, height / width) + 0.5)
    figure = Figure(
        figsize=(columns * panel[0] + 0.75 * bars, rows * panel[1]), dpi=150, layout="constrained", facecolor="white"
    )
    grid: Any = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    return figure, list(grid.flat)


def _draw_map(
    figure: "Figure", axes: "Axes", explanation: Explanation, *, like: Sequence[Explanation] = (), bar: bool = True
) -> Any:
    what = shown(explanation, like=like)
    height, width = explanation.view.size
    # Nothing is seen of this image but its scale, which the colour bar takes.
    scale = axes.imshow([[what.low, what.high]], cmap=colormap(what.signed), visible=False)
    axes.imshow(blend(explanation, like=like), extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    _mark(axes, explanation)
    if bar:
        _bar(figure, scale, [axes], what)
    return scale


def _bar(figure: "Figure", image: Any, panels: list["Axes"], what: Shown) -> None:
    bar: Any = figure.colorbar(image, ax=panels, fraction=0.045, pad=0.02)
    bar.set_label(what.unit, color=FAINT, fontsize=8)
    bar.ax.tick_params(labelsize=7, colors=FAINT, length=2)
    bar.outline.set_visible(False)


def _title(axes: "Axes", title: str, detail: str) -> None:
    axes.set_title(f"{title}\n" if detail else title, color=INK, fontsize=10, loc="left")
    axes.annotate(detail, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", color=FAINT, fontsize=8)


def _words(explanation: Explanation) -> tuple[str, str]:
    title, _, detail = explanation.title.partition(" · ")
    return title, detail.replace(" · ", ", ")


def _mark(axes: "Axes", explanation: Explanation) -> None:
    """A ring around the point that was looked from."""
    if explanation.query is not None:
        for colour, width in (("black", 3.5), ("white", 1.8)):
            axes.plot(
                *explanation.query, marker="o", markersize=11, fillstyle="none", color=colour, markeredgewidth=width
            )


def colormap(signed: bool) -> "Colormap":
    """Dark to bright; or blue (against) through white to red (for)."""
    from matplotlib import colormaps

    return colormaps["RdBu_r" if signed else "inferno"]
