"""hybridvit data check: what a person, a program and the shell are told."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridvit.cli.main import main
from kinds import KINDS

MakePictures = Callable[..., Path]


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str]:
    code = main(["data", "check", *map(str, words), "--workers", "0"])
    return code, capsys.readouterr().out


def test_a_good_set_is_exit_code_0(make_pictures: MakePictures, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, make_pictures(size=(40, 40)))
    assert code == 0
    assert out.endswith("No problem found.\n")
    assert "width 40 to 40" in out


def test_findings_are_named_counted_and_exit_code_1(
    make_pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_pictures()
    (data / "train" / "a" / "bad<b>.png").write_bytes(b"no picture")
    (data / "test" / "b" / "copy.png").write_bytes((data / "train" / "a" / "000.png").read_bytes())
    code, out = run(capsys, data, "--report", tmp_path / "new" / "check.html")
    assert code == 1
    assert "PROBLEM: 1 pictures cannot be read." in out
    assert "PROBLEM: 1 pictures are in more than one part" in out
    assert "notice: 55 pictures have a side below 32 pixels." in out
    page = (tmp_path / "new" / "check.html").read_text()
    assert "bad&lt;b&gt;.png" in page
    assert "<b>.png" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("data:image/jpeg;base64,") > 2

    code, out = run(capsys, data, "--json")
    found = json.loads(out)
    assert code == 1
    assert found["counts"]["train"] == [13, 12, 12]
    assert len(found["broken"]) == 1
    assert found["duplicates"][0]["kind"] == "exact"


@pytest.mark.parametrize("kind", ["lists", "zip", "shards with .cls"])
def test_other_kinds_of_data_sets_are_checked_too(
    kind: str, make_pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = KINDS[kind](make_pictures(size=(40, 40)), tmp_path / "kept")
    code, out = run(capsys, kept, "--report", tmp_path / "check.html", "--min-side", "50")
    assert code == 0
    assert "54 pictures have a side below 50" in out
    assert (tmp_path / "check.html").read_text().count("data:image/jpeg;base64,") == 24


def test_a_name_that_is_no_utf8_is_spelt_out_in_table_json_and_page(
    make_pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_pictures(size=(40, 40))
    folder = os.fsencode(data / "train" / "a")
    os.rename(folder + b"/000.png", folder + b"/caf\xe9.png")
    Path(os.fsdecode(folder + b"/caf\xff.png")).write_bytes(b"no picture")
    code, out = run(capsys, data, "--report", tmp_path / "check.html", "--min-side", "50")
    assert code == 1
    assert "caf\\udcff.png cannot be read" in out
    assert "caf\\udcff.png cannot be read" in (tmp_path / "check.html").read_bytes().decode("utf-8")

    found = json.loads(run(capsys, data, "--json", "--min-side", "50")[1].encode("utf-8"))
    assert any("caf\\udce9.png" in name for name in found["tiny"])
    assert "caf\\udcff.png" in found["broken"][0]["name"]


def test_findings_are_printed_before_a_page_that_cannot_be_written(
    make_pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    code = main(
        ["data", "check", str(make_pictures()), "--workers", "0", "--report", str(tmp_path / "file" / "x.html")]
    )
    printed = capsys.readouterr()
    assert code == 2
    assert "notice: 54 pictures" in printed.out
    assert "cannot be written" in printed.err


def test_what_cannot_be_opened_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "nowhere")[0] == 2
