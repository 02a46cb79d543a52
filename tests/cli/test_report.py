"""hybridvit report: one file that says it all, on any screen, without a network."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from browser import open_page
from hybridvit.cli.main import main
from hybridvit.evaluation.logits import Result
from hybridvit.report.model import choose
from kinds import KINDS

MakePictures = Callable[..., Path]


def report(weights: Path, data: Path, *words: str) -> int:
    return main(["report", str(weights), "--data", str(data), "--workers", "0", "--device", "cpu", *words])


def test_the_page_holds_score_pictures_and_origin_and_loads_nothing(
    weights: Path, make_pictures: MakePictures, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(weights, make_pictures(), "--pictures", "2") == 0
    out = capsys.readouterr().out
    html = weights.with_suffix(".html").read_text(encoding="utf-8")
    top1 = re.search(r"top-1 ([\d.]+ %) of 18 pictures", out)
    assert top1
    assert f"<b>{top1[1]}</b><span>top-1</span>" in html
    headings = re.findall("<h2>(.*?)</h2>", html)
    assert headings == [
        "Its worst mistakes",
        "Most doubtful",
        "Surest and right",
        "Confusion",
        "Accuracy by class",
        "Can its confidence be trusted?",
        "Size and speed",
        "Where it came from",
    ]
    assert 4 <= html.count("data:image/jpeg;base64,") <= 12
    assert not re.findall(r'(?:src|href)="(?!data:)', html)
    assert re.search(r"0\.\d\d million", html)
    assert "pictures per second" in html


@pytest.mark.parametrize("kind", ["lists", "zip", "shards with .json", "Hugging Face"])
def test_every_kind_of_data_set_is_evaluated_and_shown(
    kind: str, weights: Path, make_pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "Hugging Face":
        pytest.importorskip("datasets")
    data = KINDS[kind](make_pictures(train=1, test=2), tmp_path / "kept")
    assert report(weights, data, "--pictures", "1", "--method", "gradcam") == 0
    assert "of 6 pictures" in capsys.readouterr().out
    assert weights.with_suffix(".html").read_text(encoding="utf-8").count("<img") >= 2


def test_a_broken_picture_is_named_and_the_rest_is_evaluated(weights: Path, make_pictures: MakePictures) -> None:
    data = make_pictures()
    broken = data / "test" / "b" / "002.png"
    broken.write_bytes(b"no picture")
    assert report(weights, data, "--pictures", "1", "--method", "rollout") == 1
    html = weights.with_suffix(".html").read_text(encoding="utf-8")
    assert "on 17 pictures" in html
    assert str(broken) in html


@pytest.mark.parametrize(("width", "dark"), [(375, True), (1100, False)])
def test_it_fits_a_phone_and_the_dark(
    weights: Path, make_pictures: MakePictures, tmp_path: Path, width: int, dark: bool
) -> None:
    assert (
        report(weights, make_pictures(), "--pictures", "3", "--method", "gradcam", "--out", f"{tmp_path}/r.html") == 0
    )
    with open_page((tmp_path / "r.html").as_uri(), width=width, dark=dark) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") != dark
        sizes = page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert sizes
        assert all(sizes)


def test_the_worst_the_doubtful_and_the_best_are_what_they_are_called() -> None:
    logits = np.array([[9, 0, 0], [0, 5, 0], [0, 8, 0], [1, 1.1, 0], [3, 0, 0]], dtype=np.float32)
    labels = np.array([0, 0, 2, 1, 0])
    chosen = choose(Result(logits, labels, tuple("abcde"), ("x", "y", "z")), 2)
    assert {kind: numbers.tolist() for kind, numbers in chosen.items()} == {
        "best": [0, 4],
        "worst": [2, 1],
        "doubtful": [3, 4],
    }
