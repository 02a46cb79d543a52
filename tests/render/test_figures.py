"""render/figures.py: what is drawn lies where its values are, whatever the names and numbers."""

import re
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from hybridvit.render.figures import (
    COLOURS,
    Panel,
    Scale,
    confusion_matrix,
    line_chart,
    panels,
    plain,
    to_png,
    to_svg,
)


def lines(figure: Any) -> list[Any]:
    return figure.axes[0].get_lines()


def test_gaps_and_what_is_not_finite_are_left_out() -> None:
    figure = line_chart("x", {"a": [(0, 0.0), (5, 5.0), (7, float("nan")), (8, float("inf")), (9, -1e300), (10, 10.0)]})
    assert lines(figure)[0].get_xydata().tolist() == [[0, 0], [5, 5], [10, 10]]


@pytest.mark.parametrize("value", [0.0, 1e-9, -3.0, 1e12, 1e99, 5e-324])
def test_a_single_value_can_be_drawn(value: float) -> None:
    figure = line_chart("x", {"a": [(4, value)]})
    assert lines(figure)[0].get_marker() == "o"
    assert "<svg" in to_svg(figure)


def test_nothing_is_drawn_of_nothing() -> None:
    assert line_chart("x", {"a": [], "b": [(1, float("inf"))]}) is None
    assert line_chart("x", {}) is None


def test_a_run_keeps_its_colour_where_another_has_no_points() -> None:
    one = line_chart("x", {"a": [], "b": [(0, 2), (1, 2)]})
    assert to_hex(lines(one)[0].get_color()) == COLOURS[1]


@pytest.mark.parametrize("name", ["$x_{", "a$b$c", "\\frac", "猫", "a\nb", "\x00\x07", "", " ", "x" * 500, "<b>&"])
def test_any_name_can_be_drawn_and_is_no_formula(name: str) -> None:
    for figure in (
        line_chart(name, {name: [(0, 1), (1, 2)], "b": [(0, 1)]}),
        confusion_matrix(np.array([[1, 2], [0, 1]]), [name, "b"]),
        panels([Panel(Image.new("RGB", (9, 4)), name, name)], columns=1, heading=name),
    ):
        assert "<svg" in to_svg(figure)
        assert to_png(figure).startswith(b"\x89PNG")


def test_text_in_svg_is_text_in_the_readers_colour() -> None:
    svg = to_svg(line_chart("Käse $5$ 猫", {"a": [(0, 1)], "b$": [(0, 2)]}))
    assert "Käse $5$ 猫" in svg
    assert "b$" in svg
    assert "currentColor" in svg
    assert plain("a$b", 2) == "a…"


@pytest.mark.parametrize("classes", [1, 3, 60, 1000])
def test_a_confusion_matrix_of_few_and_many_classes(classes: int) -> None:
    counts = np.zeros((classes, classes), dtype=int)
    counts[0, -1] = 7
    figure = confusion_matrix(counts, [f"class {k}" for k in range(classes)])
    shades = figure.axes[0].get_images()[0].get_array()
    assert shades.shape == (classes, classes, 4)
    assert shades[0, -1, 3] == 1
    assert (shades[1:, :, 3] == 0).all()
    assert f"<title>7 of class 0 found as class {classes - 1}</title>" in to_svg(figure)


def test_right_is_blue_and_wrong_is_red_and_the_root_of_the_share() -> None:
    shades = confusion_matrix(np.array([[3, 1], [0, 2]]), ["a", "b"]).axes[0].get_images()[0].get_array()
    assert to_hex(shades[0, 0]) == COLOURS[0]
    assert to_hex(shades[0, 1]) == COLOURS[1]
    np.testing.assert_allclose(shades[..., 3], [[0.75**0.5, 0.5], [0, 1]])


def test_a_page_of_a_thousand_classes_all_confused_stays_small() -> None:
    svg = to_svg(confusion_matrix(np.ones((300, 300), dtype=int), [str(k) for k in range(300)]))
    assert len(svg) < 1_000_000


def test_panels_have_a_bar_each_or_one_for_all() -> None:
    item = Panel(Image.new("RGB", (40, 20)), "a", "b", mark=(3.0, 4.0), scale=Scale(0, 1, "unit", "inferno"))
    each, together = (panels([item] * 3, columns=2, one_scale=one) for one in (False, True))
    assert len(each.axes) == 4 + 3
    assert len(together.axes) == 4 + 1
    assert each.axes[0].get_lines()[0].get_xydata().tolist() == [[3, 4]]
    assert len(set(re.findall("unit", to_svg(each)))) == 1
