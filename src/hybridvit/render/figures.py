"""Figures, drawn by matplotlib: lines, a confusion matrix, pictures with maps; as objects, as SVG for pages, as PNG.

A name from a file is text and nothing else: matplotlib would read formulas between two dollar signs.
"""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from hybridvit.errors import ConfigError
from hybridvit.files import writing
from hybridvit.output import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Sequence[tuple[float, float]]

COLOURS = ("#3b6fb6", "#c1121f", "#1a7f37", "#b7791f", "#7b4fa6", "#0f8b8d", "#d1488e", "#5c6770")
RIGHT, WRONG = "#1a7f37", "#c1121f"
INK, SOFT = "#1f2933", "#7b8794"
"""INK is the reader's own colour of text in SVG."""
MAX_NAMED, MAX_NUMBERED, MAX_TIPS = 50, 25, 4000
"""Classes up to which a confusion matrix has names and numbers; cells up to which each says in SVG what it is."""
MISSING = "Figures are drawn with matplotlib: pip install 'hybridvit[viz]'"
LARGEST = 1e100
"""Beyond, matplotlib's axes overflow."""


def new_figure(width: float, height: float, *, dpi: int = 100) -> "Figure":
    """An empty figure, in inches, that needs no display. Raises: ConfigError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(MISSING) from error
    return Figure(figsize=(width, height), dpi=dpi, layout="constrained", facecolor="white")


def plain(name: str, most: int = 40) -> str:
    """A name as a figure can show it: one line, not too long, no formula."""
    line = " ".join(printable(name).split())
    return (line if len(line) <= most else line[: most - 1] + "…").replace("$", r"\$")


def line_chart(title: str, series: Mapping[str, Points], *, x_label: str = "step") -> "Figure | None":
    """Lines by name, over steps with their last values. Points that are not finite are left out; None where none is left."""
    lines = {name: [(x, y) for x, y in points if abs(y) < LARGEST] for name, points in series.items()}
    if not any(lines.values()):
        return None
    figure = new_figure(5.2, 2.7)
    axes = figure.subplots()
    for number, (name, points) in enumerate(lines.items()):  # the same run has one colour in all charts
        if points:
            axes.plot(
                *zip(*points, strict=True),
                color=COLOURS[number % len(COLOURS)],
                linewidth=1.6,
                marker="o" if len(points) == 1 else None,
                label=plain(name) + (f"  {points[-1][1]:.5g}" if x_label == "step" else ""),
            )
    dress(axes, title=title, x_label=x_label)
    if len(series) > 1:
        figure.legend(loc="outside lower left", frameon=False, labelcolor=INK, ncols=2, fontsize=9)
    return figure


def dress(axes: "Axes", *, title: str, x_label: str) -> None:
    """A quiet frame: a title at the left, horizontal lines, small ticks."""
    axes.set_title(plain(title), loc="left", fontsize=10, color=INK)
    axes.set_xlabel(x_label, loc="right", color=SOFT, fontsize=9)
    axes.grid(axis="y", color=SOFT, alpha=0.3, linewidth=0.8)
    axes.tick_params(colors=SOFT, labelsize=9, length=0)
    axes.spines[:].set_visible(False)
    axes.xaxis.set_major_formatter("{x:.6g}")
    axes.yaxis.set_major_formatter("{x:.5g}")


def confusion_matrix(counts: np.ndarray, names: Sequence[str]) -> "Figure":
    """Rows are true classes, columns what the model said; shades are shares of the row."""
    labelled = len(names) <= MAX_NAMED
    side = min(9.0, max(2.4, 0.34 * len(names))) + (0.9 if labelled else 0.2)
    figure = new_figure(side, side)
    draw_confusion(figure.subplots(), counts, names)
    return figure


def draw_confusion(axes: "Axes", counts: np.ndarray, names: Sequence[str]) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shades = np.empty((*counts.shape, 4))
    shades[:] = to_rgba(COLOURS[1])
    np.einsum("iic->ic", shades)[:] = to_rgba(COLOURS[0])
    shades[..., 3] = np.where(
        counts > 0, np.maximum(0.06, shares**0.5), 0
    )  # the root lifts single mistakes out of the white
    axes.imshow(shades, interpolation="nearest")
    axes.xaxis.tick_top()
    axes.spines[:].set_color(SOFT)
    axes.spines[:].set_alpha(0.4)
    axes.tick_params(colors=INK, labelsize=8, length=0)
    if len(names) <= MAX_NAMED:
        short = [plain(name, 16) for name in names]
        axes.set_xticks(range(len(names)), short, rotation=90 if max(map(len, short)) > 2 else 0)
        axes.set_yticks(range(len(names)), short)
    cells = list(zip(*map(np.ndarray.tolist, np.nonzero(counts)), strict=True))
    for i, j in cells if len(names) <= MAX_NUMBERED else ():
        axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=8, color=INK)
    for i, j in cells if len(cells) <= MAX_TIPS else ():
        tip = printable(f"{counts[i, j]} of {names[i]} found as {names[j]}")
        axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, alpha=0, linewidth=0, gid=f"tip:{tip}"))


@dataclass(frozen=True)
class Scale:
    """What colours stand for: the values of the first and the last one."""

    low: float
    high: float
    unit: str
    colours: str
    """A colormap of matplotlib's."""


def colour(position: np.ndarray, scale: Scale) -> np.ndarray:
    """Red, green, blue and opacity, from 0 to 1, of places between the first and the last colour. Shape: (...) -> (..., 4)."""
    try:
        from matplotlib import colormaps
    except ImportError as error:
        raise ConfigError(MISSING) from error
    return colormaps[scale.colours](position)


@dataclass(frozen=True)
class Panel:
    """A picture of a row, what stands above it, a point that is ringed, and the scale of its colours."""

    picture: Image.Image
    title: str
    detail: str = ""
    mark: tuple[float, float] | None = None
    scale: Scale | None = None


def panels(items: Sequence[Panel], *, columns: int, heading: str = "", one_scale: bool = False) -> "Figure":
    """Pictures in rows, each with its colour bar, or all with one."""
    rows = -(-len(items) // columns)
    longest = max(items[0].picture.size)
    width, height = (3.4 * length / longest for length in items[0].picture.size)
    bars = 1 if one_scale else sum(item.scale is not None for item in items)
    figure = new_figure(columns * (width + 0.15) + 0.75 * bars, rows * (height + 0.5), dpi=150)
    grid: Any = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    most = max(12, int(17 * width))
    for axes, item in zip(grid.flat, items, strict=False):
        colours = None
        if item.scale:  # nothing is seen of this image but its scale, which the colour bar takes
            colours = axes.imshow([[item.scale.low, item.scale.high]], cmap=item.scale.colours, visible=False)
        columns_, rows_ = item.picture.size
        axes.imshow(item.picture.convert("RGB"), extent=(-0.5, columns_ - 0.5, rows_ - 0.5, -0.5))
        axes.set(xlim=(-0.5, columns_ - 0.5), ylim=(rows_ - 0.5, -0.5))
        if item.mark:
            for ring, stroke in (("black", 3.5), ("white", 1.8)):
                axes.plot(*item.mark, marker="o", markersize=11, fillstyle="none", color=ring, markeredgewidth=stroke)
        axes.set_title(plain(item.title, most), fontsize=10, color=INK, loc="left", pad=16 if item.detail else 6)
        detail = plain(item.detail, most)
        axes.annotate(detail, (0, 1), (0, 4), "axes fraction", "offset points", color=SOFT, fontsize=8)
        if item.scale and not (one_scale and axes is not grid.flat[0]):
            _bar(figure, colours, list(grid.flat) if one_scale else [axes], item.scale.unit)
    if heading:
        figure.suptitle(plain(heading, 200), color=INK, fontsize=11, x=0.01, ha="left")
    return figure


def _bar(figure: "Figure", colours: Any, axes: "list[Axes]", unit: str) -> None:
    bar: Any = figure.colorbar(colours, ax=axes, fraction=0.045, pad=0.02)
    bar.set_label(unit, color=SOFT, fontsize=8)
    bar.ax.tick_params(labelsize=7, colors=SOFT, length=2)
    bar.outline.set_visible(False)


def to_svg(figure: "Figure") -> Markup:
    """For a page: text stays text, in the reader's own colour; cells say what they are when pointed at."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none"}), _any_name():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    return Markup(re.sub(r"""<g id=(["'])tip:(.*?)\1>""", r"<g><title>\2</title>", svg))


def to_png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    with _any_name():
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def save_png(path: str | Path, figure: "Figure") -> None:
    """Raises: DataError when the file cannot be written."""
    with writing(path) as temporary:
        temporary.write_bytes(to_png(figure))


@contextmanager
def _any_name() -> Iterator[None]:
    """matplotlib warns of letters that its font lacks, which a page shows all the same, and of names too long for a panel."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+|constrained_layout not applied")
        yield
