"""render/page.py: what is put in comes out escaped and whole, and loads nothing."""

import os
import re
import sys
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browser import open_page
from hybridvit.data.readers.files import FileSource
from hybridvit.data.readers.folder import Folder
from hybridvit.errors import DataError
from hybridvit.render.figures import confusion_matrix, line_chart
from hybridvit.render.page import (
    Thumbnail,
    charts,
    folded,
    fragment,
    page,
    pictures,
    preformatted,
    save_page,
    section,
    table,
    thumbnails,
    tiles,
)

NASTY = '<script>alert("&")</script>'
NO_UTF8 = os.fsdecode(b"caf\xe9")
VOID = {"meta", "img", "br", "path", "use"}


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


def nasty_page() -> str:
    return page(
        NASTY,
        tiles({NASTY: NASTY}),
        section(
            NASTY,
            table([NASTY, "n"], [[NASTY, 1.0], [None, None]]),
            folded(NASTY, preformatted(NASTY)),
            charts(
                partial(line_chart, NASTY, {NASTY: [(0, 1), (1, 2)], "b": [(0, 2)]}, x_label=NASTY),
                partial(confusion_matrix, np.array([[3, 1], [0, 2]]), [NASTY, '"' + NASTY]),
            ),
            pictures([Thumbnail([Image.new("RGB", (3, 2))], NASTY, NASTY, right=False)]),
            thumbnails([(FileSource(Folder(Path()), [NASTY]), 0)]),
            note=NASTY,
        ),
        fragment(table([NASTY], [[NASTY]])),
        subtitle=NASTY,
    )


def test_every_text_is_escaped_and_every_tag_closed() -> None:
    html = nasty_page()
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    assert "script" not in parser.tags
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)


def test_a_browser_runs_nothing_of_it_and_shows_the_names(tmp_path: Path) -> None:
    save_page(tmp_path / "page.html", nasty_page())
    with open_page((tmp_path / "page.html").as_uri()) as shown:
        shown.on("dialog", lambda _: pytest.fail("a script of a class name ran"))
        assert shown.evaluate("document.scripts.length") == 0
        assert shown.locator("td").first.inner_text() == NASTY
        assert NASTY in shown.locator("svg title").first.text_content()


def test_numbers_stand_to_the_right_with_two_digits_and_nothing_is_a_dash() -> None:
    html = table(["name", "n"], [["a", 1.0], ["b", None]])
    assert '<td class="number">1.00</td>' in html
    assert '<td class="number">-</td>' in html
    assert "<td>a</td>" in html


def test_a_name_that_is_no_utf8_is_spelt_out(tmp_path: Path) -> None:
    matrix = partial(confusion_matrix, np.eye(2, dtype=int), [NO_UTF8, "b"])
    save_page(
        tmp_path / "page.html",
        page(
            NO_UTF8,
            table([NO_UTF8], [[NO_UTF8]]),
            thumbnails([(FileSource(Folder(Path()), [NO_UTF8]), 0)]),
            charts(matrix),
        ),
    )
    assert (tmp_path / "page.html").read_bytes().decode("utf-8").count("caf\\udce9") == 9


def test_without_matplotlib_the_page_is_there_and_says_how_to_get_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    html = page("x", charts(partial(line_chart, "x", {"a": [(0, 1)]})), table(["a"], [[1]]))
    assert "pip install &#39;hybridvit[viz]&#39;" in html
    assert "<td" in html


def test_charts_of_nothing_are_left_out() -> None:
    assert charts(partial(line_chart, "x", {"a": []})) == '<div class="charts"></div>'


def test_a_page_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        save_page(tmp_path / "file" / "x.html", page("x"))
