"""Several processes compute what one would."""

import json
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

# Chunks, and so drop path, mixing and augmentation, are the same at any number of processes; gradients are the same
# means. Only BatchNorm's running statistics, which follow one process's chunks, differ: the test keeps the model's
# BatchNorm layers in evaluation mode, as fine-tuning with model.freeze does.
SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from hybridvit.config import load_recipe
from hybridvit.data.folder import read_splits
from hybridvit.runtime import joined_ranks
from hybridvit.train.loop import fit
from hybridvit.train.setup import prepare

torch.set_num_threads(1)
data, out, options, *overrides = sys.argv[1:]
device = torch.device("cpu")
with joined_ranks(device) as ranks:
    run = prepare(
        load_recipe("digits", overrides), read_splits(data), out=Path(out), device=device, ranks=ranks,
        resume=options == "resume",
    )
    if options == "kill" and ranks.rank == 1:
        run.reporter.stepped = lambda step, _: step == 7 and os.kill(os.getpid(), signal.SIGKILL)
    run.modes.frozen = [m for m in run.model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    fit(run)
"""
OVERRIDES = (
    "precision=float64",
    "global_batch=12",
    "device_batch=3",
    "mix.mixup=0",
    "model.drop_path_rate=0.2",
    "augment.erasing=0.5",
    "schedule.epochs=4",
    "schedule.warmup_epochs=1",
    "run.eval_epochs=2",
    "run.log_steps=1",
    "run.save_minutes=0",
)


def train(data: Path, out: Path, *, processes: int, options: str = "") -> subprocess.CompletedProcess[str]:
    script = out.parent / "train.py"
    script.write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *launcher, str(script), str(data), str(out), options, *OVERRIDES]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)


def lines(out: Path) -> list[dict[str, float | None]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_one_of_them_killed_have_the_losses_and_accuracy_of_one(
    make_pictures: MakePictures, tmp_path: Path
) -> None:
    data = make_pictures(test=7)  # 21 test pictures do not divide by two processes
    (data / "train" / "b" / "003.png").write_bytes(b"no picture")
    done = train(data, tmp_path / "one", processes=1)
    assert done.returncode == 0, done.stderr
    done = train(data, tmp_path / "two", processes=2, options="kill")
    assert done.returncode != 0
    assert "TrainingError: Rank 0 lost another of the 2 ranks" in done.stderr
    assert f"The last saved state is in {tmp_path / 'two'}: start again with --resume" in done.stderr
    done = train(data, tmp_path / "two", processes=2, options="resume")
    assert done.returncode == 0, done.stderr

    one, two = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for key, expected in a.items():
            if expected is None:
                assert b[key] is None
            else:
                assert b[key] == pytest.approx(expected, rel=1e-6), key
    assert [line["images"] for line in two if "images" in line] == [21, 21]


def test_a_batch_that_cannot_be_dealt_out_is_refused() -> None:
    from hybridvit.config import load_recipe
    from hybridvit.errors import ConfigError
    from hybridvit.runtime import Ranks
    from hybridvit.train.setup import _device_batch

    assert _device_batch(load_recipe("digits", ["global_batch=64"]), Ranks(0, 4)) == 16
    with pytest.raises(ConfigError, match=r"global_batch \(64\) must be a multiple of device_batch \(21\) times the 3"):
        _device_batch(load_recipe("digits", ["global_batch=64"]), Ranks(0, 3))


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
