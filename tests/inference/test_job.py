"""inference/job.py: pieces become files, once each, and one folder holds one job."""

import io
import json
import runpy
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import hybridvit
from hybridvit.errors import ConfigError, DataError
from hybridvit.inference.clock import Clock, Done
from hybridvit.inference.job import Worker, here
from hybridvit.inference.pieces import Piece, list_pieces
from hybridvit.inference.predictor import Predictor
from hybridvit.models import catalog
from kinds import KINDS

pq = pytest.importorskip("pyarrow.parquet")

MakePictures = Callable[..., Path]


def rows_in(folder: Path) -> list[dict[str, object]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def add_to_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as shard:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))


def test_files_hold_what_rows_in_memory_hold_in_the_same_order(
    weights: Path, make_pictures: MakePictures, tmp_path: Path
) -> None:
    pictures = make_pictures(train=5, test=2)
    written = hybridvit.predict(weights, pictures, out=tmp_path / "out", piece_size=4, batch_size=3)
    plain = hybridvit.predict(weights, pictures, batch_size=3)
    found = rows_in(tmp_path / "out")
    assert [row["path"] for row in found] == [row.path for row in plain]
    for one, other in zip(found, plain, strict=True):
        assert [p["class"] for p in one["predictions"]] == [p["class"] for p in other.said["predictions"]]
        assert [p["probability"] for p in one["predictions"]] == pytest.approx(
            [p["probability"] for p in other.said["predictions"]], rel=1e-5
        )
    assert written.complete
    assert written.counts == {"pictures": 21, "broken": 0}
    assert (written.pieces, written.of) == (6, 6)


@pytest.mark.parametrize("kind", ["zip", "lists", "Hugging Face", "shards with .cls"])
def test_every_kind_of_data_set_is_cut_into_pieces_and_every_picture_is_there_once(
    kind: str, weights: Path, make_pictures: MakePictures, tmp_path: Path
) -> None:
    data = KINDS[kind](make_pictures(train=3, test=1), tmp_path / "kept")
    written = hybridvit.embed(weights, data, out=tmp_path / "out", piece_size=5)
    expected = [row.path for row in hybridvit.predict(weights, data)]
    found = rows_in(tmp_path / "out")
    assert [row["path"] for row in found] == expected
    assert {len(row["features"]) for row in found} == {256}
    assert written.counts == {"pictures": 12, "broken": 0}


def test_a_broken_picture_is_a_row_that_says_why_and_all_files_have_the_same_columns(
    weights: Path, make_pictures: MakePictures, tmp_path: Path
) -> None:
    folder = make_pictures(train=1, test=2) / "test"
    for picture in (folder / "a").iterdir():
        picture.write_bytes(b"no picture")
    written = hybridvit.predict(weights, folder, out=tmp_path / "out", piece_size=2)  # the first piece is broken whole
    found = rows_in(tmp_path / "out")
    assert [row["ok"] for row in found] == [False] * 2 + [True] * 4
    assert "cannot be read as a picture" in str(found[0]["error"])
    assert found[0]["predictions"] is None
    assert found[2]["error"] is None
    assert written.counts == {"pictures": 6, "broken": 2}
    assert len({pq.read_schema(path).remove_metadata() for path in (tmp_path / "out").glob("*.parquet")}) == 1


def test_pandas_and_datasets_read_the_folder(weights: Path, make_pictures: MakePictures, tmp_path: Path) -> None:
    pandas, datasets = pytest.importorskip("pandas"), pytest.importorskip("datasets")
    folder = make_pictures(train=1, test=2) / "test"
    (folder / "b" / "000.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    written = hybridvit.embed(weights, folder, out=out, piece_size=2)
    (out / ".unfinished").mkdir()  # as a killed process leaves it
    (out / ".unfinished" / ".1234.part-000000.parquet").write_bytes(b"PAR1 half")
    frame = pandas.read_parquet(out)
    loaded = datasets.load_dataset("parquet", data_files=str(out / "*.parquet"), cache_dir=str(tmp_path / "cache"))
    for table in (frame, loaded["train"].to_pandas(), written.to_frame()):
        assert list(table.columns) == ["path", "ok", "error", "features"]
        assert list(table["ok"]) == [True, True, False, True, True, True]
    features = np.stack(frame[frame.ok].features)
    plain = [row.said["features"] for row in hybridvit.embed(weights, folder) if row.ok]
    np.testing.assert_allclose(features, plain, rtol=1e-4, atol=1e-5)


def test_the_example_finds_the_pictures_most_like_one(
    weights: Path,
    make_pictures: MakePictures,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("sklearn")
    folder, out = make_pictures(test=3) / "test", tmp_path / "out"
    shutil.copy(folder / "c" / "001.png", folder / "a" / "twin.png")
    (folder / "a" / "broken.png").write_bytes(b"no picture")
    hybridvit.embed(weights, folder, out=out, piece_size=4)
    words = ["nearest.py", str(out), str(folder / "c" / "001.png"), "3"]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "nearest.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"1.000  {folder / 'a' / 'twin.png'}"
    assert len(lines) == 3
    assert not any("c/001.png" in line for line in lines)


def test_pieces_that_are_there_are_passed_over(
    weights: Path, make_pictures: MakePictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = make_pictures(test=2) / "test", tmp_path / "out"
    computed: list[int] = []
    monkeypatch.setattr(Worker, "__call__", counting(Worker.__call__, computed))
    first = hybridvit.predict(weights, folder, out=out, piece_size=2, share=(2, 3))
    assert (first.pieces, first.complete, computed) == (1, False, [1])
    assert json.loads((out / "_manifest.json").read_text())["counts"] is None
    hybridvit.predict(weights, folder, out=out, piece_size=2)
    assert computed == [1, 0, 2]
    (out / "part-000001.parquet").unlink()
    last = hybridvit.predict(weights, folder, out=out, piece_size=2)
    assert computed == [1, 0, 2, 1]
    assert last.counts == json.loads((out / "_manifest.json").read_text())["counts"] == {"pictures": 6, "broken": 0}
    assert len({row["path"] for row in rows_in(out)}) == len(rows_in(out)) == 6


def counting(call: Callable[..., Done], computed: list[int]) -> Callable[..., Done]:
    def counted(self: Worker, piece: Piece, *rest: object) -> Done:
        computed.append(piece.number)
        return call(self, piece, *rest)

    return counted


@pytest.mark.parametrize("shares", [1, 2, 5])
def test_shares_make_the_whole_and_share_nothing(shares: int, make_pictures: MakePictures) -> None:
    listing = list_pieces([make_pictures()], size=7)
    parts = [listing.share(k, shares) for k in range(1, shares + 1)]
    numbers = [piece.number for part in parts for piece in part]
    assert sorted(numbers) == list(range(len(listing.pieces)))
    with pytest.raises(ConfigError, match="expected K/N with K from 1 to N"):
        listing.share(shares + 1, shares)


def test_another_job_in_the_same_folder_is_refused_and_every_difference_named(
    weights: Path, make_pictures: MakePictures, tmp_path: Path
) -> None:
    folder, out = make_pictures(test=2) / "test", tmp_path / "out"
    hybridvit.predict(weights, folder, out=out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    other: nn.Module = catalog.create("cmt_nano", num_classes=4)
    with pytest.raises(DataError, match=r"(?s)another job.*model\.sha256.*model\.classes") as refused:
        hybridvit.predict(other, folder, out=out)
    assert "options" not in str(refused.value)
    with pytest.raises(DataError, match=r"options\.give: \"predictions\" there, \"features\" now"):
        hybridvit.embed(weights, folder, out=out)
    with pytest.raises(DataError, match=r"options\.top_k: 3 there, 1 now"):
        hybridvit.predict(weights, folder, out=out, top_k=1)
    with pytest.raises(
        DataError, match=r"listing\.sha256: (?s:.*)listing\.first: .*000\.png\" there, .*001\.png\" now"
    ):
        hybridvit.predict(weights, [folder / "a" / "001.png", folder], out=out)
    shutil.copy(folder / "a" / "000.png", folder / "a" / "new.png")
    with pytest.raises(DataError, match=r"listing\.sha256: "):
        hybridvit.predict(weights, folder, out=out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_model_in_memory_is_known_by_its_weights(weights: Path, make_pictures: MakePictures, tmp_path: Path) -> None:
    folder, out = make_pictures(test=1) / "test", tmp_path / "out"
    model = hybridvit.load(weights)
    hybridvit.embed(model, folder, out=out)
    assert hybridvit.embed(hybridvit.load(weights), folder, out=out).pictures == 0
    with torch.no_grad():
        next(model.parameters()).flatten()[0] += 1
    with pytest.raises(DataError, match=r"model\.sha256"):
        hybridvit.embed(model, folder, out=out)


def test_a_folder_of_unknown_parquet_files_is_left_alone(
    weights: Path, make_pictures: MakePictures, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.parquet").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"holds Parquet files, but no _manifest\.json"):
        hybridvit.predict(weights, make_pictures(test=1), out=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.parquet"]
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        hybridvit.predict(weights, tmp_path / "pictures", out=tmp_path / "file")


def test_a_shard_that_cannot_be_listed_is_told_and_tried_again_and_one_without_pictures_is_an_empty_file(
    weights: Path, make_pictures: MakePictures, tmp_path: Path
) -> None:
    picture = (make_pictures(test=1) / "test" / "a" / "000.png").read_bytes()
    shards, out = tmp_path / "shards", tmp_path / "out"
    shards.mkdir()
    add_to_tar(shards / "0.tar", {"readme.txt": b"nothing"})
    add_to_tar(shards / "1.tar", {"one.png": picture, "two.png": picture})
    damaged = b"x" * (shards / "1.tar").stat().st_size
    (shards / "2.tar").write_bytes(damaged)
    written = hybridvit.predict(weights, shards, out=out)
    assert not written.complete
    assert "2.tar cannot be read" in str(written)
    assert [len(pq.read_table(path)) for path in sorted(out.glob("*.parquet"))] == [0, 2]
    shutil.copy(shards / "1.tar", shards / "2.tar")
    assert hybridvit.predict(weights, shards, out=out).counts == {"pictures": 4, "broken": 0}


def test_pieces_are_made_of_paths_and_their_options_need_a_folder(
    weights: Path, make_pictures: MakePictures, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="Pieces are made of paths"):
        hybridvit.predict(weights, [np.zeros((9, 9, 3), np.uint8)], out=tmp_path / "out")
    with pytest.raises(ConfigError, match=r"piece_size: these are for a folder of pieces, out=DIR"):
        hybridvit.predict(weights, make_pictures(test=1), piece_size=3)
    with pytest.raises(ConfigError, match="workers make their own Predictor"):
        hybridvit.predict(Predictor(weights), tmp_path, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_progress_counts_what_was_there_before_and_tells_the_time_that_is_left() -> None:
    told: list[str] = []
    clock = Clock(5, 2, lambda progress: told.append(str(progress)), began=0.0, now=lambda: 10.0)
    clock.batch(50, 100)
    assert list(clock.watch([Done(2, pictures=100, broken=1)]))
    assert told == [
        "2 of 5 pieces, 50 pictures, 5.0 pictures/s, 50 s left",
        "3 of 5 pieces, 100 pictures, 10.0 pictures/s, 20 s left",
    ]


def test_a_piece_that_another_process_has_written_meanwhile_is_not_computed_again(
    weights: Path, make_pictures: MakePictures, tmp_path: Path
) -> None:
    folder, out = make_pictures(test=2) / "test", tmp_path / "out"

    def slow(worker: Worker, pieces: list[Piece], on_batch: Callable[[int, int], None]):  # type: ignore[no-untyped-def]
        hybridvit.predict(weights, folder, out=out, piece_size=3)
        before = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
        yield from here(worker, pieces, on_batch)
        assert {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")} == before

    written = hybridvit.predict(weights, folder, out=out, piece_size=3, launcher=slow)
    assert written.counts == {"pictures": 6, "broken": 0}
