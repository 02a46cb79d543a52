"""hybridvit embed, and predict --out: Parquet files by the command line."""

from collections.abc import Callable
from pathlib import Path

import pytest

import hybridvit
from hybridvit.cli.main import main

pq = pytest.importorskip("pyarrow.parquet")

MakePictures = Callable[..., Path]


def command(*words: str | Path) -> int:
    return main([*map(str, words), "--device", "cpu"])


def test_embed_writes_what_the_function_gives_and_says_what_it_did(
    weights: Path, make_pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = make_pictures(test=2) / "test", tmp_path / "out"
    assert command("embed", weights, folder, "--out", out, "--piece-size", "4") == 0
    assert "2 of 2 pieces; 6 pictures now, 0 broken\ncomplete: 6 pictures, 0 broken" in capsys.readouterr().out
    found = [row for path in sorted(out.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    plain = hybridvit.embed(weights, folder)
    for one, other in zip(found, plain, strict=True):
        assert one["path"] == other.path
        assert one["features"] == pytest.approx(other.said["features"].tolist(), rel=1e-4, abs=1e-5)


def test_shares_finish_each_others_job_and_a_broken_picture_is_told_by_the_exit_code(
    weights: Path, make_pictures: MakePictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = make_pictures(test=2) / "test", tmp_path / "out"
    (folder / "a" / "000.png").write_bytes(b"no picture")
    words = ["predict", weights, folder, "--out", out, "--piece-size", "2", "--top-k", "1"]
    assert command(*words, "--piece", "2/2") == 0
    assert command(*words, "--piece", "1/2") == 1
    out_text, err = capsys.readouterr()
    assert "complete: 6 pictures, 1 broken" in out_text
    assert "column error" in err
    assert command(*words) == 1  # nothing is left to do, and the picture is still broken


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--piece", "3/2", "--out", "o"], "expected K/N with K from 1 to N, found '3/2'"),
        (["--piece", "1/2"], "--piece cannot be had here: it is for --out DIR"),
        (["--out", "o", "--actors", "2"], "--actors cannot be had here: it is for --on ray"),
        (["--out", "o", "--json"], "--json cannot be had here: --out writes Parquet files"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    words: list[str], message: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: int | str | None = command("predict", weights, tmp_path, *words)
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert message in capsys.readouterr().err
