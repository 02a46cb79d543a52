"""A self-contained HTML page: the shell, tables, charts and pictures that reports share.

Pages load nothing: style, drawings (SVG) and pictures (data URIs) are inside. Every function takes plain text, which page.html
escapes, and gives Markup, which is not escaped again.
"""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from hybridvit.data.decode import decode
from hybridvit.data.source import Source
from hybridvit.errors import ConfigError, DataError
from hybridvit.files import writing
from hybridvit.output import printable
from hybridvit.render.figures import to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Thumbnail:
    """Pictures one above the other, with what is said of them."""

    pictures: Sequence[Image.Image]
    caption: str
    detail: str = ""
    right: bool | None = None
    """Whether what is said is right: its colour."""


def page(title: str, *parts: Markup, subtitle: str = "") -> str:
    """A whole document."""
    return _block("page", title=title, subtitle=subtitle, parts=parts)


def fragment(*parts: Markup) -> Markup:
    """The same without a document around it, as notebooks show it."""
    return _block("fragment", parts=parts)


def save_page(path: str | Path, html: str) -> None:
    """Write a page, atomically. Raises: DataError when it cannot be written."""
    with writing(path) as temporary:
        temporary.write_text(printable(html), encoding="utf-8")


def section(title: str, *parts: Markup, note: str = "") -> Markup:
    return _block("section", title=title, note=note, parts=parts)


def tiles(values: Mapping[str, object]) -> Markup:
    """Large figures in a row: what -> how much; None is left out."""
    return _block("tiles", values={name: _cell(value) for name, value in values.items() if value is not None})


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> Markup:
    """None is a dash; columns of numbers stand to the right."""
    numeric = [bool(rows) and all(isinstance(row[k], int | float | None) for row in rows) for k in range(len(headers))]
    cells = [[_cell(value) for value in row] for row in rows]
    return _block("table", headers=list(headers), rows=cells, numeric=numeric)


def folded(summary: str, *parts: Markup) -> Markup:
    """Thumbnail when it is clicked on."""
    return _block("folded", summary=summary, parts=parts)


def preformatted(text: str) -> Markup:
    return _block("preformatted", text=text)


def note(text: str) -> Markup:
    return _block("note", text=text)


def charts(*draw: "Callable[[], Figure | None]") -> Markup:
    """Drawings side by side; those that come to nothing are left out. Without matplotlib the page says how to get them."""
    try:
        return _block("charts", drawings=[to_svg(figure) for each in draw if (figure := each())])
    except ConfigError as error:
        return note(str(error))


def pictures(items: Sequence[Thumbnail], *, side: int = 132) -> Markup:
    """Thumbnails with captions."""
    colours = {True: "good", False: "bad", None: ""}
    rows = [
        ([_uri(p, side=side) for p in each.pictures], each.caption, each.detail, colours[each.right]) for each in items
    ]
    return _block("pictures", items=rows, side=side)


def thumbnails(places: Sequence[tuple[Source, int]], captions: Sequence[str] = ()) -> Markup:
    """Pictures by their sources and numbers; those that cannot be read, or no more, are grey."""
    captions = captions or [""] * len(places)
    shown = [
        Thumbnail([read_or_grey(*place)], text, place[0].name(place[1]))
        for place, text in zip(places, captions, strict=True)
    ]
    return pictures(shown)


def read_or_grey(source: Source | None, index: int) -> Image.Image:
    """A picture by its number; grey where it cannot be read, or nobody knows its source."""
    try:
        return (
            Image.new("RGB", (8, 8), "grey") if source is None else decode(source.read(index), name=source.name(index))
        )
    except (DataError, OSError):
        return Image.new("RGB", (8, 8), "grey")


def _uri(picture: Image.Image, *, side: int) -> str:
    """The picture, made to fit a square, as JPEG in a data URI. Small pictures are enlarged pixel by pixel."""
    scale = side / max(picture.size)
    sampling = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.BICUBIC
    small = picture.convert("RGB").resize([max(1, round(length * scale)) for length in picture.size], sampling)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _cell(value: object) -> object:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else value


@cache
def _template() -> Any:
    loader = PackageLoader("hybridvit.render", "")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("page.html").module


def _block(name: str, **values: Any) -> Markup:
    return getattr(_template(), name)(**values)
