"""inference/rows.py: rows as a notebook shows them."""

import re

from hybridvit.inference.rows import SHOWN, Predictions, Row

NASTY = "<script>alert(1)</script>"


def test_a_class_or_file_called_script_stays_a_name() -> None:
    row = Row(path=NASTY, said={"predictions": [{"class": NASTY, "probability": 0.5}]})
    html = Predictions([row])._repr_html_()
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2
    assert "50.0 %" in html


def test_rows_of_different_lengths_are_filled_and_very_many_are_counted() -> None:
    good = Row(path="a", said={"predictions": [{"class": c, "probability": 0.25} for c in "xyz"]})
    html = Predictions([good, Row(path="b", error="gone")] * SHOWN)._repr_html_()
    lines = re.findall(r"<tr>(.*?)</tr>", html)
    assert len(lines) == 1 + SHOWN
    assert {line.count("<t") for line in lines} == {4}
    assert f"{SHOWN} more." in html


def test_no_rows_are_an_empty_table() -> None:
    assert "<th>picture</th>" in Predictions([])._repr_html_()
