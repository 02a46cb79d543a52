"""serve/page.html in a real browser: drop a picture, click a point, see the map change."""

from pathlib import Path
from typing import Any

import pytest

from browser import open_page


def layer(page: Any, panel: int = 0) -> str:
    """The map that is shown."""
    return page.locator(".map").nth(panel).get_attribute("src")


def settle(page: Any) -> None:
    """Wait until the answer is on the page, with its pictures."""
    page.wait_for_function("""() => {
        const images = [...document.querySelectorAll('.stack img')];
        return images.length && images.every(image => image.complete && image.naturalWidth)
            && !document.getElementById('panels').classList.contains('busy');
    }""")


def test_a_picture_is_explained_and_a_click_changes_the_map(address: str, picture_file: Path) -> None:
    with open_page(address) as page:
        page.set_input_files("#file", picture_file)
        settle(page)
        assert page.locator("section").count() == 1
        assert page.locator("li").count() == 3
        assert page.get_by_text("What the class token reads").count() == 1
        before = layer(page)

        page.select_option("#stage", "0")
        page.get_by_text("What all places read · stage 0").wait_for()
        settle(page)
        box = page.locator(".stack").bounding_box()
        page.locator(".stack").click(position={"x": box["width"] * 0.4, "y": box["height"] * 0.4})
        page.get_by_text("reads · stage 0").wait_for()
        settle(page)
        first = layer(page)
        page.locator(".stack").click(position={"x": box["width"] * 0.7, "y": box["height"] * 0.7})
        page.wait_for_function("before => document.querySelector('.map').src !== before", arg=first)
        settle(page)
        assert len({before, first, layer(page)}) == 3
        ring = page.locator(".ring").bounding_box()
        assert ring["x"] + ring["width"] / 2 == pytest.approx(box["x"] + box["width"] * 0.7, abs=2)

        page.click("#clear")
        page.get_by_text("What all places read").wait_for()
        assert page.locator(".ring").count() == 0


def test_two_models_are_compared(address: str, picture_file: Path) -> None:
    with open_page(address) as page:
        page.set_input_files("#file", picture_file)
        settle(page)
        page.select_option("#compare", "cmt")
        page.locator("section").nth(1).wait_for()
        page.select_option("#method", "rollout")
        page.wait_for_function("document.querySelectorAll('.title')[1].textContent.startsWith('Rollout')")
        settle(page)
        assert [page.locator("h2").nth(k).text_content() for k in (0, 1)] == ["cvt", "cmt"]
        assert layer(page, 0) != layer(page, 1)


def test_class_names_are_text_and_never_markup(address: str, picture_file: Path) -> None:
    with open_page(address) as page:
        page.set_input_files("#file", picture_file)
        settle(page)
        assert page.get_by_text("<b>cat</b>").count() >= 1
        assert page.locator("li b").count() == 0


def test_what_is_no_picture_is_said_and_the_page_goes_on(address: str, picture_file: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with open_page(address, expect="422") as page:
        page.set_input_files("#file", tmp_path / "notes.txt")
        page.get_by_text("cannot be read as a picture").wait_for()
        page.set_input_files("#file", picture_file)
        settle(page)
        assert page.locator("#problem").text_content() == ""


def test_the_page_fits_a_phone(address: str, picture_file: Path) -> None:
    with open_page(address, width=375, height=700, dark=True) as page:
        page.set_input_files("#file", picture_file)
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
