"""A self-contained HTML page: the shell, tables, line charts and pictures that reports share.

Pages load nothing: style, drawings (SVG) and pictures (data URIs) are inside. Every function takes plain text and
escapes it; what it returns is HTML.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from hybridvit.errors import DataError
from hybridvit.files import replacing

Points = Sequence[tuple[float, float]]

COLOURS = ("#3b6fb6", "#c1121f", "#1a7f37", "#b7791f", "#7b4fa6", "#0f8b8d", "#d1488e", "#5c6770")
STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #5c6770; --line: #d9dee4; --paper: #fff; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #9aa5b1; --line: #3a434d; --paper: #14181d; --card: #1d2329; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
       max-width: 1100px; padding: 24px; overflow-wrap: anywhere; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 36px 0 8px; } p { margin: 4px 0 12px; }
.soft { color: var(--soft); } .good { color: #1a7f37; } .bad { color: #c1121f; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0; }
.tile { background: var(--card); border-radius: 8px; padding: 10px 16px; min-width: 110px; }
.tile b { display: block; font-size: 22px; font-weight: 600; } .tile span { color: var(--soft); font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(430px, 100%), 1fr)); gap: 16px; }
svg { max-width: 100%; height: auto; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .soft { fill: var(--soft); } svg .grid { stroke: var(--line); } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; } td, th { padding: 3px 14px 3px 0; text-align: left;
       border-bottom: 1px solid var(--line); vertical-align: top; } th { color: var(--soft); font-weight: 500; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.pictures { display: flex; flex-wrap: wrap; gap: 14px; } figure { margin: 0; width: 132px; }
figure img { width: 132px; height: 132px; object-fit: contain; background: var(--card); border-radius: 4px; }
figcaption { font-size: 12px; overflow-wrap: anywhere; line-height: 1.35; }
pre { background: var(--card); padding: 12px; border-radius: 8px; overflow-x: auto; font-size: 13px; }
details summary { cursor: pointer; }
"""


def page(title: str, *parts: str, subtitle: str = "") -> str:
    """A whole document."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n<body>'
        f'<h1>{escape(title)}</h1><p class="soft">{escape(subtitle)}</p>\n' + "\n".join(parts) + "\n</body></html>\n"
    )


def save_page(path: str | Path, html: str) -> None:
    """Write a page, atomically. Raises: DataError when it cannot be written."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(html, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}") from error


def section(title: str, *parts: str, note: str = "") -> str:
    text = f'<p class="soft">{escape(note)}</p>' if note else ""
    return f"<h2>{escape(title)}</h2>{text}" + "\n".join(parts)


def tiles(values: Mapping[str, object]) -> str:
    """Large figures in a row: what -> how much."""
    boxes = (f'<div class="tile"><b>{escape(str(v))}</b><span>{escape(k)}</span></div>' for k, v in values.items())
    return f'<div class="tiles">{"".join(boxes)}</div>'


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """None is a dash; columns of numbers stand to the right."""
    numeric = [all(isinstance(row[k], int | float | None) for row in rows) for k in range(len(headers))]

    def line(cells: Sequence[object], tag: str) -> str:
        marked = (
            f"<{tag}{' class=number' if right else ''}>{escape(_text(cell))}</{tag}>"
            for cell, right in zip(cells, numeric, strict=True)
        )
        return f"<tr>{''.join(marked)}</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return f'<div class="wide"><table>{line(headers, "th")}\n{body}</table></div>'


def folded(summary: str, *parts: str) -> str:
    """Shown when it is clicked on."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"


def preformatted(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def charts(*drawings: str) -> str:
    """Line charts side by side; empty ones are left out."""
    return f'<div class="charts">{"".join(f"<div>{drawing}</div>" for drawing in drawings if drawing)}</div>'


def line_chart(title: str, series: Mapping[str, Points], *, x_label: str = "step", width: int = 520) -> str:
    """Lines by name. Points that are not finite are left out; nothing is drawn without points."""
    lines = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in series.items()}
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return ""
    height, left, right, top, bottom = 260, 58, 14, 30, 40
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    x_ticks, y_ticks = _ticks(min(xs), max(xs)), _ticks(min(ys), max(ys))
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1e-12)
    y_low, y_high = y_ticks[0], max(y_ticks[-1], y_ticks[0] + 1e-12)

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - x_low) / (x_high - x_low) * (width - left - right),
            top + (y_high - y) / (y_high - y_low) * (height - top - bottom),
        )

    parts = [f'<text x="{left}" y="16" font-weight="600">{escape(title)}</text>']
    for y in y_ticks:
        at = place(x_low, y)[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="soft" x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in x_ticks:
        if x_low <= x <= x_high:
            at = place(x, y_low)[0]
            parts.append(f'<text class="soft" x="{at:.1f}" y="{height - 22}" text-anchor="middle">{x:g}</text>')
    parts.append(f'<text class="soft" x="{width - right}" y="{height - 5}" text-anchor="end">{escape(x_label)}</text>')
    colours = dict(
        zip(series, _colours(len(series)), strict=True)
    )  # of all names: the same run has one colour in all charts
    for name, points in lines.items():
        colour = colours[name]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6">'
            f"<title>{escape(name)}: last {points[-1][1]:.5g}</title></polyline>"
        )
        if len(points) == 1:
            x, y = place(*points[0])
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
    drawing = (
        f'<svg viewBox="0 0 {width} {height}" style="width: {width}px" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
    return drawing + (_legend({name: colours[name] for name in lines}) if len(series) > 1 else "")


def heat_map(counts: np.ndarray, names: Sequence[str]) -> str:
    """A confusion matrix: rows are true classes, columns what the model said; shades are shares of the row."""
    num = len(names)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell = max(3, min(34, 620 // num))
    labelled = cell >= 12
    space = 14 + (7 * min(max(map(len, names)), 16) if labelled else 0)
    size = space + cell * num + 4
    parts = []
    for i, j in zip(*np.nonzero(counts), strict=True):
        colour, opacity = (COLOURS[0] if i == j else COLOURS[1]), max(0.06, float(shares[i, j]) ** 0.5)
        x, y = space + cell * j, space + cell * i
        tip = f"{counts[i, j]} of {names[i]} found as {names[j]}"
        parts.append(
            f'<rect x="{x}" y="{y}" width="{cell - 1}" height="{cell - 1}" fill="{colour}" '
            f'fill-opacity="{opacity:.2f}"><title>{escape(tip)}</title></rect>'
        )
        if cell >= 24:
            parts.append(f'<text x="{x + cell / 2}" y="{y + cell / 2 + 4}" text-anchor="middle">{counts[i, j]}</text>')
    for k, name in enumerate(names if labelled else ()):
        middle = space + cell * (k + 0.5)
        parts.append(f'<text x="{space - 4}" y="{middle + 4}" text-anchor="end">{escape(name[:16])}</text>')
        turned = f' transform="rotate(-90 {middle + 4} {space - 4})"' if len(name) > 2 else ""
        start = f'x="{middle + 4}"' if turned else f'x="{middle}" text-anchor="middle"'
        parts.append(f'<text {start} y="{space - 4}"{turned}>{escape(name[:16])}</text>')
    return f'<svg viewBox="0 0 {size} {size}" style="width:{size}px" role="img">{"".join(parts)}</svg>'


def pictures(items: Sequence[tuple[Image.Image, str]], *, side: int = 132) -> str:
    """Thumbnails with captions."""
    figures = (
        f'<figure><img src="{picture_uri(picture, side=side)}" alt=""><figcaption>{escape(caption)}</figcaption></figure>'
        for picture, caption in items
    )
    return f'<div class="pictures">{"".join(figures)}</div>'


def picture_uri(picture: Image.Image, *, side: int) -> str:
    """The picture, made to fit a square, as JPEG in a data URI. Small pictures are enlarged pixel by pixel."""
    scale = side / max(picture.size)
    sampling = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.BICUBIC
    small = picture.convert("RGB").resize([max(1, round(length * scale)) for length in picture.size], sampling)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _legend(colours: Mapping[str, str]) -> str:
    items = (f'<span style="color:{colour}">&#9644;</span> {escape(name)}' for name, colour in colours.items())
    return f'<p class="soft">{" &nbsp; ".join(items)}</p>'


def _colours(count: int) -> list[str]:
    return [COLOURS[k % len(COLOURS)] for k in range(count)]


def _ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values that enclose low and high."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)
