"""A run that was interrupted anywhere ends in the very bits of a run that went through."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from hybridvit.errors import CheckpointError, ConfigError, TrainingError
from hybridvit.training.loop import fit
from hybridvit.training.state import list_states
from hybridvit.training.trainer import Trainer

PrepareRun = Callable[..., Trainer]


Result = tuple[dict[str, Any], bytes]
UNINTERRUPTED: list[Result] = []


class PowerCutError(Exception):
    pass


def cut_power_after(run: Trainer, steps: int) -> None:
    def stepped(step: int, _: int) -> None:
        if step == steps:
            raise PowerCutError

    run.reporter.stepped = stepped  # type: ignore[method-assign]


def result(folder: Path) -> Result:
    return torch.load(list_states(folder)[0], weights_only=True), (folder / "metrics.jsonl").read_bytes()


@pytest.fixture
def uninterrupted(prepare_run: PrepareRun) -> Result:
    """What the small recipe ends in. Computed once: the same pictures give the same bits."""
    if not UNINTERRUPTED:
        run = prepare_run("uninterrupted")
        fit(run)
        UNINTERRUPTED.append(result(run.out))
    return UNINTERRUPTED[0]


def assert_same(found: Any, expected: Any, path: str = "") -> None:
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), path
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), path
        for key in expected:
            if not path.endswith("/recipe") or key != "run":
                assert_same(found[key], expected[key], f"{path}/{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), path
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert_same(a, b, f"{path}/{i}")
    else:
        assert found == expected, path


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("steps", [1, 6, 11])
def test_a_resumed_run_ends_in_the_same_bits(
    prepare_run: PrepareRun, uninterrupted: Result, steps: int, workers: int
) -> None:
    first = prepare_run("cut")
    cut_power_after(first, steps)
    with pytest.raises(PowerCutError):
        fit(first)
    second = prepare_run("cut", [f"run.workers={workers}"], resume=True)
    assert second.counters.step == steps - 1
    fit(second)
    assert_same(result(second.out), uninterrupted)


def result_files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_finished_run_leaves_its_files_and_no_temporaries(prepare_run: PrepareRun) -> None:
    run = prepare_run("run")
    fit(run)
    assert result_files(run.out) == {
        ".lock",
        "best.safetensors",
        "last.safetensors",
        "logits.npz",
        "metrics.jsonl",
        "recipe.yaml",
        "report.html",
        "state-00000011.pt",
        "state-00000011.pt.sha256",
        "state-00000012.pt",
        "state-00000012.pt.sha256",
        "timings.jsonl",
    }
    lines = [json.loads(line) for line in (run.out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6, 8, 10, 12]
    assert [(line["epoch"], line["images"]) for line in lines if "top1" in line] == [(2, 18), (4, 18)]


def test_kill_9_at_random_moments_changes_nothing(prepare_run: PrepareRun, tmp_path: Path) -> None:
    whole = prepare_run("whole", ["schedule.epochs=14"])
    fit(whole)
    script = Path(__file__).with_name("kill_often.py")
    command = [sys.executable, str(script), str(tmp_path / "pictures"), str(tmp_path / "killed"), "20"]
    recipe = whole.out / "recipe.yaml"
    done = subprocess.run([*command, str(recipe)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 20
    assert_same(result(tmp_path / "killed"), result(whole.out))


def test_a_damaged_state_is_passed_over_with_a_warning(
    prepare_run: PrepareRun, uninterrupted: Result, tmp_path: Path
) -> None:
    fit(prepare_run("whole"))
    newest, _ = list_states(tmp_path / "whole")
    newest.write_bytes(newest.read_bytes()[:-100])
    said = io.StringIO()
    second = prepare_run("whole", resume=True, console=Console(file=said))
    assert second.counters.step == 11
    assert "state-00000012.pt is damaged (its sha256 does not agree)" in said.getvalue()
    fit(second)
    assert_same(result(second.out), uninterrupted)


def test_when_every_state_is_damaged_resuming_says_so(prepare_run: PrepareRun) -> None:
    run = prepare_run("run")
    fit(run)
    for path in list_states(run.out):
        path.with_name(path.name + ".sha256").unlink()
    with pytest.raises(CheckpointError, match=r"Every saved state in .* is damaged"):
        prepare_run("run", resume=True)


def test_left_over_temporaries_are_swept(prepare_run: PrepareRun, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".123.state-00000007.pt").write_bytes(b"half")
    prepare_run("run").close()
    assert result_files(tmp_path / "run") == {".lock", "recipe.yaml"}


def test_resuming_where_nothing_is_begins(prepare_run: PrepareRun) -> None:
    run = prepare_run("new", resume=True)
    assert run.counters.step == 0
    run.close()


def test_a_folder_with_a_run_is_not_overwritten(prepare_run: PrepareRun) -> None:
    run = prepare_run("run")
    fit(run)
    with pytest.raises(TrainingError, match=r"already holds a run\. Continue it with --resume"):
        prepare_run("run")


def test_two_processes_cannot_train_in_one_folder(prepare_run: PrepareRun) -> None:
    run = prepare_run("run")
    code = "import sys; from pathlib import Path; from hybridvit.training.checkpointer import Claim; Claim(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(run.out)], capture_output=True, text=True, check=False)
    assert "TrainingError: Another process is training in" in done.stderr
    run.close()


def test_another_recipe_cannot_resume_a_run_but_other_workers_can(prepare_run: PrepareRun) -> None:
    run = prepare_run("run")
    fit(run)
    with pytest.raises(ConfigError, match=r"optimizer\.lr: 0\.002 when it began, now 0\.1"):
        prepare_run("run", ["optimizer.lr=0.1"], resume=True)


def test_other_pictures_cannot_resume_a_run(prepare_run: PrepareRun, tmp_path: Path) -> None:
    run = prepare_run("run")
    fit(run)
    (tmp_path / "pictures" / "train" / "a" / "000.png").unlink()
    with pytest.raises(ConfigError, match="began with 36 training pictures in 3 classes; the data set now has 35"):
        prepare_run("run", resume=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_after_the_step_and_the_run_goes_on_later(
    prepare_run: PrepareRun, uninterrupted: Result, number: int
) -> None:
    run = prepare_run("stopped", ["run.save_minutes=60"])

    def stepped(step: int, _: int) -> None:
        if step == 5:
            signal.raise_signal(number)

    run.reporter.stepped = stepped  # type: ignore[method-assign]
    assert fit(run).signal == number
    assert run.counters.step == 6  # the step under way when the signal came is finished
    second = prepare_run("stopped", resume=True)
    assert second.counters.step == 6
    fit(second)
    assert_same(result(second.out), uninterrupted)
