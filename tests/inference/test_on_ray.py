"""inference/on_ray.py: pieces on a cluster, here one of two CPUs that the test starts and ends."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridvit.errors import ConfigError
from hybridvit.inference.on_ray import check

pq = pytest.importorskip("pyarrow.parquet")

MakePictures = Callable[..., Path]


def test_a_killed_job_and_a_killed_actor_lose_and_double_nothing(
    weights: Path, make_pictures: MakePictures, tmp_path: Path
) -> None:
    """With token authentication on, as Ray has it by default."""
    pytest.importorskip("ray")
    folder, out = make_pictures(train=22, test=1) / "train", tmp_path / "out"
    (folder / "a" / "000.png").write_bytes(b"no picture")
    (tmp_path / "token").write_text("0123456789abcdef" * 4)
    environment = os.environ | {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, Path(__file__).with_name("ray_job.py"), weights, folder, out]
    done = subprocess.run(list(map(str, words)), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (alive,) = re.findall(r"job killed at (\d+)", done.stdout)
    assert int(alive) < 17, "the job was over before it could be killed"
    assert "actor killed at" in done.stdout
    assert "exit code 1" in done.stdout  # as a picture is broken
    rows = [row for path in sorted(out.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert [row["path"] for row in rows] == sorted(map(str, folder.rglob("*.png")))
    assert sum(row["ok"] for row in rows) == 65


def test_actors_that_leave_ray_no_cpu_are_refused_with_the_arithmetic() -> None:
    cluster = {"CPU": 8.0, "GPU": 2.0, "memory": 1e9}
    check(cluster, actors=7, cpus=1, gpus=0)
    check(cluster, actors=2, cpus=3, gpus=1)
    with pytest.raises(ConfigError, match=r"8 actors x 1 CPUs = 8, and the cluster has 8: .* at most 7 actors"):
        check(cluster, actors=8, cpus=1, gpus=0)
    with pytest.raises(ConfigError, match=r"4 actors x 3 CPUs = 12, .* at most 2 actors"):
        check(cluster, actors=4, cpus=3, gpus=0)
    with pytest.raises(ConfigError, match=r"3 actors x 1 GPUs = 3, and the cluster has 2"):
        check(cluster, actors=3, cpus=1, gpus=1)
    with pytest.raises(ConfigError, match="the cluster has 0"):
        check({}, actors=1, cpus=1, gpus=0)
