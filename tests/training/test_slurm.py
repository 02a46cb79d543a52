"""examples/slurm.sh, with srun and scontrol played by small scripts."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hybridvit.errors import ConfigError
from hybridvit.runtime import joined_ranks

MakePictures = Callable[..., Path]
SCRIPT = Path(__file__).parents[2] / "examples" / "slurm.sh"
SRUN = """#!/bin/bash
shift  # --kill-on-bad-exit
shift  # python
for rank in 0 1; do
  SLURM_PROCID=$rank SLURM_LOCALID=$rank SLURM_STEP_NUM_TASKS=2 {python} "$@" & pids+=($!)
done
code=0
for pid in "${{pids[@]}}"; do wait "$pid" || code=$?; done
exit $code
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo localhost; else echo "$@" >> {log}; fi
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "bin"
    folder.mkdir()
    texts = {"srun": SRUN.format(python=sys.executable), "scontrol": SCONTROL.format(log=tmp_path / "scontrol.log")}
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    return os.environ | job | {"PATH": f"{folder}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def test_the_slurm_script_trains_on_two_tasks_and_does_not_queue_a_finished_run_again(
    slurm: dict[str, str], make_pictures: MakePictures, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    options = ["--device", "cpu", "--set", "global_batch=12", "schedule.epochs=2", "schedule.warmup_epochs=0"]
    command = ["bash", str(SCRIPT), "digits", str(make_pictures()), str(out), *options]
    done = subprocess.run(command, env=slurm, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch   2/2") == 1
    assert (out / "last.safetensors").is_file()
    assert not (tmp_path / "scontrol.log").exists()


def test_two_machines_meet_through_torchrun(make_pictures: MakePictures, tmp_path: Path) -> None:
    """The line of docs/resume.md, once per machine; both are this one."""
    page = (SCRIPT.parents[1] / "docs" / "resume.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith("torchrun --nnodes 4")]
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        port = listener.getsockname()[1]
    line = line.replace("--nnodes 4 --nproc-per-node 8", "--nnodes 2 --nproc-per-node 1")
    line = line.replace("HOST:29500", f"localhost:{port}").replace(
        "cvt_13 --data IMAGENET", f"digits --data {make_pictures()}"
    )
    words = [sys.executable, "-m", "torch.distributed.run", *line.split()[1:], "--out", str(tmp_path / "run")]
    words += [
        "--device",
        "cpu",
        "--set",
        "global_batch=12",
        "schedule.epochs=1",
        "schedule.warmup_epochs=0",
        "run.workers=0",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    machines = [
        subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    printed = [machine.communicate(timeout=300)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], printed
    assert sum(text.count("epoch   1/1") for text in printed) == 1
    assert (tmp_path / "run" / "last.safetensors").is_file()


def test_the_slurm_script_is_sound_bash() -> None:
    done = subprocess.run(["bash", "-n", str(SCRIPT)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "set -euo pipefail" in SCRIPT.read_text()


def test_a_missing_meeting_place_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    ranks = joined_ranks(torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"process 1 of 4, but MASTER_ADDR and MASTER_PORT.*examples/slurm\.sh"):
        ranks.__enter__()
