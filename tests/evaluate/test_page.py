"""evaluate/page.py: what is put in comes out escaped, whole and drawn to scale."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridvit.errors import DataError
from hybridvit.evaluate.page import (
    charts,
    folded,
    heat_map,
    line_chart,
    page,
    pictures,
    preformatted,
    save_page,
    section,
    table,
    tiles,
)

NASTY = '<script>alert("&")</script>'
VOID = {"meta", "img", "br"}


class Balanced(HTMLParser):
    """Fails where a tag is not closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_text_is_escaped_and_every_tag_closed() -> None:
    html = page(
        NASTY,
        tiles({NASTY: NASTY}),
        section(
            NASTY,
            table([NASTY, "n"], [[NASTY, 1.0], [None, None]]),
            folded(NASTY, preformatted(NASTY)),
            charts(line_chart(NASTY, {NASTY: [(0, 1), (1, 2)], "b": [(0, 2)]}, x_label=NASTY)),
            heat_map(np.array([[3, 1], [0, 2]]), [NASTY, "x"]),
            pictures([(Image.new("RGB", (3, 2)), NASTY)]),
            note=NASTY,
        ),
        subtitle=NASTY,
    )
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    assert "script" not in parser.tags
    assert not re.search(r"(src|href)=\"(?!data:)", html)


def test_a_line_is_drawn_to_scale_and_gaps_are_left_out() -> None:
    chart = line_chart("x", {"a": [(0, 0.0), (5, 5.0), (7, float("nan")), (10, 10.0)]})
    points = re.search(r'points="([^"]+)"', chart)
    assert points is not None
    xy = np.array([list(map(float, point.split(","))) for point in points[1].split()])
    assert len(xy) == 3
    np.testing.assert_allclose(xy[1], (xy[0] + xy[2]) / 2, atol=0.1)
    assert xy[0, 1] > xy[2, 1]  # y grows downwards


@pytest.mark.parametrize("value", [0.0, 1e-9, -3.0, 1e12])
def test_a_single_value_can_be_drawn(value: float) -> None:
    assert "<circle" in line_chart("x", {"a": [(4, value)]})


def test_nothing_is_drawn_of_nothing() -> None:
    assert line_chart("x", {"a": [], "b": [(1, float("inf"))]}) == ""
    assert charts("", "") == '<div class="charts"></div>'


def test_a_run_keeps_its_colour_where_another_has_no_points() -> None:
    both = line_chart("x", {"a": [(0, 1), (1, 1)], "b": [(0, 2), (1, 2)]})
    one = line_chart("x", {"a": [], "b": [(0, 2), (1, 2)]})
    colours = re.findall(r'stroke="(#\w+)"', both)
    assert re.findall(r'stroke="(#\w+)"', one) == [colours[1]]


def test_a_page_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        save_page(tmp_path / "file" / "x.html", page("x"))
