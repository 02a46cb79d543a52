"""training/sinks.py: the same figures wherever they are sent, and no sink can end a run."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybridvit.errors import ConfigError
from hybridvit.training.progress import Reporter
from hybridvit.training.sinks import SINKS, open_sinks

LINES = [{"step": 5, "loss": 2.0, "lr": 0.1}, {"step": 10, "loss": 1.0, "top5": None, "top1": 50.0}]


def reported(folder: Path, *names: str, step: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    reporter = Reporter(folder, None)
    reporter.sinks = open_sinks(names, folder, {"seed": 0, "optimizer": {"lr": 0.1}}, step=step)
    reporter.start(step=0, total=10, metrics_bytes=0)
    for line in LINES:
        reporter.record(dict(line))
    reporter.close()


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_tensorboard_holds_every_number_at_its_step(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    reported(tmp_path, "tensorboard")
    assert scalars(tmp_path, "loss") == [(5, 2.0), (10, 1.0)]
    assert scalars(tmp_path, "top1") == [(10, 50.0)]


def test_a_resumed_run_hides_what_was_written_beyond_its_state(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    reported(tmp_path, "tensorboard")
    reported(tmp_path, "tensorboard", step=7)  # it was stopped after step 10 and goes on from step 7
    assert scalars(tmp_path, "loss") == [(5, 2.0), (5, 2.0), (10, 1.0)]


def apart(code: str, folder: Path, **environment: str) -> None:
    """Run code in a process of its own: wandb and trackio leave threads behind."""
    words = [sys.executable, "-W", "error", "-c", f"from hybridvit.training.sinks import open_sinks as o\n{code}"]
    offline = {"HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    nowhere = subprocess.DEVNULL  # a pipe would be held open by helpers that outlive the process
    subprocess.run(
        words,
        cwd=folder,
        env=os.environ | offline | environment,
        check=True,
        stdout=nowhere,
        stderr=nowhere,
        timeout=100,
    )


def test_wandb_writes_an_offline_run_which_keeps_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    code = (
        "from pathlib import Path; s, = o(['wandb'], Path('.').absolute(), {'seed': 0}); s.log({'loss': 1.0}, step=1)"
    )
    apart(f"{code}; s.close()", tmp_path)
    identity = (tmp_path / ".wandb-id").read_text()
    assert list((tmp_path / "wandb").glob(f"offline-run-*-{identity}/*.wandb"))


def test_trackio_keeps_the_run_in_its_folder(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    code = "from pathlib import Path; s, = o(['trackio'], Path('run'), {'seed': 0}); s.log({'loss': 1.0}, step=1)"
    apart(f"{code}; s.close()", tmp_path, TRACKIO_DIR=str(tmp_path / "kept"))
    assert list((tmp_path / "kept").glob("hybridvit*.db"))


@pytest.mark.parametrize("name", SINKS)
def test_a_library_that_is_missing_is_named_with_the_way_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> Any:
        raise ImportError

    monkeypatch.setattr("hybridvit.training.sinks.importlib.import_module", refuse)
    with pytest.raises(ConfigError, match=f"run.track: {name} is not installed: pip install"):
        open_sinks([name], tmp_path, {})


def test_a_sink_that_fails_is_dropped_and_the_metrics_stay(tmp_path: Path) -> None:
    class Full:
        def log(self, values: object, *, step: int) -> None:
            raise OSError("disk full")

        def close(self) -> None:
            raise AssertionError("it was dropped")

    said: list[str] = []
    reporter = Reporter(tmp_path, None)
    reporter.say = said.append  # type: ignore[method-assign]
    reporter.sinks = [Full()]
    reporter.start(step=0, total=10, metrics_bytes=0)
    for line in LINES:
        reporter.record(dict(line))
    reporter.close()
    assert said == ["Warning: Full hears no more of this run (disk full)."]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_sink_that_fails_on_close_is_reported_and_the_others_are_closed(tmp_path: Path) -> None:
    closed: list[str] = []

    class Lost:
        def log(self, values: object, *, step: int) -> None: ...

        def close(self) -> None:
            closed.append("")
            raise OSError("network")

    said: list[str] = []
    reporter = Reporter(tmp_path, None)
    reporter.say = said.append  # type: ignore[method-assign]
    reporter.sinks = [Lost(), Lost()]
    reporter.close()
    assert len(closed) == 2
    assert said == ["Warning: Lost hears no more of this run (network)."] * 2


def test_a_run_sends_losses_accuracy_and_speed(make_pictures: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from hybridvit.cli.main import main

    out = tmp_path / "run"
    options = [
        "global_batch=12",
        "schedule.epochs=2",
        "schedule.warmup_epochs=0",
        "run.log_steps=1",
        "run.eval_epochs=1",
    ]
    words = ["train", "digits", "--data", str(make_pictures()), "--out", str(out), "--device", "cpu"]
    assert main([*words, "--set", *options, "run.track=[tensorboard]"]) == 0
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    expected = [(line["step"], pytest.approx(line["loss"])) for line in lines if "loss" in line]
    assert scalars(out, "loss") == expected
    assert [step for step, _ in scalars(out, "top1")] == [3, 6]
    assert [step for step, _ in scalars(out, "images_per_second")] == [3, 6]
