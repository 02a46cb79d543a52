"""Several processes compute what one would."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

MakePictures = Callable[..., Path]
Launch = Callable[..., subprocess.CompletedProcess[str]]
ReadMetrics = Callable[[Path], list[dict[str, float]]]


def test_two_processes_one_of_them_killed_have_the_losses_and_accuracy_of_one(
    launch: Launch, read_metrics: ReadMetrics, make_pictures: MakePictures, tmp_path: Path
) -> None:
    data = make_pictures(test=7)  # 21 test pictures do not divide by two processes
    (data / "train" / "b" / "003.png").write_bytes(b"no picture")
    done = launch({"data": data, "out": tmp_path / "one"}, processes=1)
    assert done.returncode == 0, done.stderr
    done = launch({"data": data, "out": tmp_path / "two", "kill": 1}, processes=2)
    assert done.returncode != 0
    assert "TrainingError: Rank 0 lost another of the 2 ranks" in done.stderr
    assert f"The last saved state is in {tmp_path / 'two'}: start again with --resume" in done.stderr
    done = launch({"data": data, "out": tmp_path / "two", "resume": True}, processes=2)
    assert done.returncode == 0, done.stderr
    assert "strides" not in done.stderr  # DistributedDataParallel's word on gradients laid out otherwise than weights

    one, two = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=1e-6)
    assert [line["images"] for line in two if "images" in line] == [21, 21]


def test_a_batch_that_cannot_be_dealt_out_is_refused() -> None:
    from hybridvit.config import load_recipe
    from hybridvit.errors import ConfigError
    from hybridvit.runtime import Ranks
    from hybridvit.training.trainer import device_batch_of

    assert device_batch_of(load_recipe("digits", ["global_batch=64"]), Ranks(0, 4)) == 16
    with pytest.raises(ConfigError, match=r"global_batch \(64\) must be a multiple of device_batch \(21\) times the 3"):
        device_batch_of(load_recipe("digits", ["global_batch=64"]), Ranks(0, 3))
    assert device_batch_of(load_recipe("digits", ["global_batch=64"]), Ranks(0, 2), began_with=16) == 16
    with pytest.raises(ConfigError, match=r"device_batch \(64, with which the run began\) times the 2"):
        device_batch_of(load_recipe("digits", ["global_batch=64"]), Ranks(0, 2), began_with=64)


def test_a_run_that_loses_a_node_goes_on_with_fewer_processes_as_it_began(
    launch: Launch, read_metrics: ReadMetrics, make_pictures: MakePictures, tmp_path: Path
) -> None:
    """device_batch is derived from the number of processes when a run begins, and then belongs to its state."""
    data, derived = make_pictures(), ["device_batch=null"]
    done = launch({"data": data, "out": tmp_path / "lost", "overrides": derived, "kill": 1}, processes=2)
    assert done.returncode != 0
    done = launch(
        {"data": data, "out": tmp_path / "lost", "overrides": derived, "resume": True},
        {"data": data, "out": tmp_path / "one", "overrides": ["device_batch=6"]},
        processes=1,
    )
    assert done.returncode == 0, done.stderr
    lost, one = read_metrics(tmp_path / "lost"), read_metrics(tmp_path / "one")
    assert len(lost) == len(one)
    for a, b in zip(lost, one, strict=True):
        assert a == pytest.approx(b, rel=1e-6)


def test_a_signal_to_one_rank_stops_all_after_the_same_step_and_tells_how_to_go_on(
    make_pictures: MakePictures, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    options = ["--data", str(make_pictures()), "--out", str(out), "--device", "cpu", "--set", "global_batch=12"]
    options += ["schedule.epochs=2000", "run.log_steps=1", "run.eval_epochs=1000"]
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "hybridvit", "train", "digits", *options]
    ranks = [
        subprocess.Popen(command, env=os.environ | meeting | {"RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    deadline = time.monotonic() + 200
    while not (out / "metrics.jsonl").exists() or (out / "metrics.jsonl").stat().st_size == 0:
        assert time.monotonic() < deadline
        assert all(rank.poll() is None for rank in ranks)
        time.sleep(0.05)
    ranks[1].send_signal(signal.SIGTERM)
    printed = [rank.communicate(timeout=100)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    (state,) = out.glob("state-*.pt")
    assert f"Stopped after step {int(state.stem[6:])} of 6000; everything is saved. Go on with" in printed[0]
    assert "--resume" in printed[0]
    assert printed[1] == ""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]
