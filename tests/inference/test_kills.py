"""Jobs that are killed at any moment, and begun again by the same command."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pq = pytest.importorskip("pyarrow.parquet")

MakePictures = Callable[..., Path]
ROOT = Path(__file__).parents[2]


def names_in(out: Path) -> list[str]:
    return [name for path in sorted(out.glob("*.parquet")) for name in pq.read_table(path)["path"].to_pylist()]


def test_every_picture_is_there_once_after_kills_at_any_moment(
    weights: Path, make_pictures: MakePictures, tmp_path: Path
) -> None:
    folder, out = make_pictures(train=20, test=12) / "train", tmp_path / "out"
    words = [sys.executable, str(Path(__file__).with_name("kill_pieces.py")), weights, folder, out, "10"]
    done = subprocess.run(
        list(map(str, words)), env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) >= 8
    assert sorted(names_in(out)) == sorted(map(str, folder.rglob("*.png")))
    kept = sorted(path.name for path in out.iterdir())
    assert kept == ["_manifest.json", *(f"part-{k:06d}.parquet" for k in range(15))]


def test_the_array_script_computes_every_share(weights: Path, make_pictures: MakePictures, tmp_path: Path) -> None:
    """examples/predict_array.sh, with Slurm's variables set by hand."""
    folder, out = make_pictures(train=1, test=3) / "test", tmp_path / "out"
    script = ROOT / "examples" / "predict_array.sh"
    words = ["bash", script, weights, folder, out, "--piece-size", "2", "--device", "cpu"]
    there = []
    for task in ("2", "1"):
        job = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "2", "OMP_NUM_THREADS": "1"}
        path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(
            list(map(str, words)), env=os.environ | job | path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        there.append([path.name for path in sorted(out.glob("*.parquet"))])
    assert there == [[f"part-00000{k}.parquet" for k in numbers] for numbers in ((1, 3), range(5))]
    assert sorted(names_in(out)) == sorted(map(str, folder.rglob("*.png")))
