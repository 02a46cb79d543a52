"""Weights split over the ranks: the same figures, and a state that no moment, rank or number of ranks can spoil."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.api import CheckpointException

from hybridvit.errors import CheckpointError
from hybridvit.training import shard
from hybridvit.training.loop import fit
from hybridvit.training.state import list_states, load_newest_state, sweep
from hybridvit.training.trainer import Trainer
from hybridvit.weights.load import load, read_checkpoint

MakePictures = Callable[..., Path]
PrepareRun = Callable[..., Trainer]
Launch = Callable[..., subprocess.CompletedProcess[str]]
ReadMetrics = Callable[[Path], list[dict[str, float]]]
EVERYTHING = (
    "run.workers=0",
    "ema.decay=0.9",
    "optimizer.clip_norm=0.5",
    "optimizer.layer_decay=0.7",
    "model.grad_checkpointing=true",
)
SHARDED = (*EVERYTHING, "run.fsdp=true")
KINDS = {
    "cmt": ["model.name=cmt_nano", "optimizer.name=lamb", "ema.decay=0.9", "batchnorm.precise_batches=2"],
    "scaled": ["precision=float16", "device_batch=6"],
}


def test_sharded_runs_killed_and_resumed_on_any_number_of_ranks_have_the_losses_of_one(
    launch: Launch, read_metrics: ReadMetrics, make_pictures: MakePictures, tmp_path: Path
) -> None:
    data = make_pictures(test=7)  # 21 test pictures do not divide by two processes
    one, whole, killed, shrunk, grown = (tmp_path / name for name in ("one", "whole", "killed", "shrunk", "grown"))
    done = launch(
        {"data": data, "out": whole, "overrides": SHARDED},
        {"data": data, "out": killed, "overrides": SHARDED, "kill": 1},
        processes=2,
    )
    assert "TrainingError: Rank 0 lost another of the 2 ranks" in done.stderr
    newest = list_states(killed)[0]
    assert newest.is_dir()
    shutil.copytree(killed, shrunk)
    piece = shrunk / newest.name / "__1_0.distcp"
    piece.write_bytes(piece.read_bytes()[:-100])

    done = launch(
        {"data": data, "out": one, "overrides": EVERYTHING},
        {"data": data, "out": shrunk, "overrides": EVERYTHING, "resume": True},
        processes=1,
    )
    assert done.returncode == 0, done.stderr
    assert f"{newest.name} is damaged (the sha256 of __1_0.distcp does not agree): falling back" in done.stdout
    shutil.copytree(one, grown)
    for path in grown.glob("state-00000012*"):
        path.unlink()

    done = launch(
        {"data": data, "out": killed, "overrides": SHARDED, "resume": True},
        {"data": data, "out": grown, "overrides": SHARDED, "resume": True},
        processes=2,
    )
    assert done.returncode == 0, done.stderr
    assert (killed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    for file in ("best.safetensors", "last.safetensors"):
        weights = read_checkpoint(killed / file).state
        for name, tensor in read_checkpoint(whole / file).state.items():
            assert torch.equal(weights[name], tensor), f"{file}: {name}"
    expected = read_metrics(one)
    for run in (whole, shrunk, grown):
        for a, b in zip(read_metrics(run), expected, strict=True):
            assert a == pytest.approx(b, rel=1e-6)
    assert {path.suffix for path in list_states(shrunk)} == {".pt"}
    assert all(path.is_dir() for path in list_states(killed))
    assert not load(whole / "last.safetensors").training  # as any other command opens it
    weights = read_checkpoint(whole / "last.safetensors").state
    for name, tensor in read_checkpoint(one / "last.safetensors").state.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-6, atol=1e-9)


def test_sharding_changes_no_figure_of_any_kind_of_run(
    launch: Launch, read_metrics: ReadMetrics, make_pictures: MakePictures, tmp_path: Path
) -> None:
    """Against DistributedDataParallel, BatchNorm training as ever, with scaled losses and another optimizer, too."""
    data = make_pictures()
    short = ["schedule.epochs=1", "schedule.warmup_epochs=0", "run.save_minutes=60", "run.workers=0"]
    done = launch(
        *(
            {
                "data": data,
                "out": tmp_path / f"{kind}_{fsdp}",
                "batchnorm": True,
                "overrides": [*short, *overrides, f"run.fsdp={fsdp}"],
            }
            for kind, overrides in KINDS.items()
            for fsdp in ("false", "true")
        ),
        processes=2,
    )
    assert done.returncode == 0, done.stderr
    for kind in KINDS:
        pairs = zip(read_metrics(tmp_path / f"{kind}_true"), read_metrics(tmp_path / f"{kind}_false"), strict=True)
        for a, b in pairs:
            assert a == pytest.approx(b, rel=5e-3 if kind == "scaled" else 1e-6), kind


def test_an_optimizer_that_cannot_be_split_is_named(prepare_run: PrepareRun) -> None:
    run = prepare_run("run")

    def refuse(*_: object) -> None:
        raise RuntimeError("aten.lerp_.Scalar got mixed torch.Tensor and DTensor, need to convert all")

    run.model.register_forward_pre_hook(refuse)
    with pytest.raises(ValueError, match=r"optimizer\.name=adamw cannot work on pieces .* leave run\.fsdp off"):
        fit(run)


@pytest.fixture
def saved(prepare_run: PrepareRun) -> Trainer:
    """A run that kept a state in pieces: of one rank, as fits in one process."""
    run = prepare_run("run")
    fit(run)
    shard.save_shards(run.out, 90, run.state_dict(), run.ranks)
    return run


def test_a_disk_that_fills_up_leaves_the_older_states(saved: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise CheckpointException("write", {0: (OSError(28, "No space left on device"), None)})  # type: ignore[arg-type]

    before = list_states(saved.out)
    monkeypatch.setattr(shard.dcp, "save", fail)
    with pytest.raises(OSError, match="No space left on device"):
        shard.save_shards(saved.out, 91, saved.state_dict(), saved.ranks)
    assert list_states(saved.out) == before
    assert not list(saved.out.glob(".state*"))


def test_a_disk_that_is_full_for_the_last_file_is_an_error_as_any_other(
    saved: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch says RuntimeError there."""
    before = list_states(saved.out)

    def fail(*_: object) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="file write failed"):
        shard.save_shards(saved.out, 91, saved.state_dict(), saved.ranks)
    assert list_states(saved.out) == before
    assert not list(saved.out.glob(".state*"))


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp", "rest.pt", "sha256"])
def test_a_state_with_a_file_missing_is_passed_over(saved: Trainer, name: str) -> None:
    newest, older = list_states(saved.out)
    (newest / name).unlink()
    warnings: list[str] = []
    state = load_newest_state(saved.out, warnings.append)
    assert state is not None
    assert state["counters"]["step"] == 12
    assert len(warnings) == 1
    assert name in warnings[0]
    older.unlink()
    with pytest.raises(CheckpointError, match="Every saved state in"):
        load_newest_state(saved.out, warnings.append)


def test_half_a_state_is_swept(saved: Trainer) -> None:
    (saved.out / "state-00000090").rename(saved.out / ".state-00000090")
    sweep(saved.out)
    assert not (saved.out / ".state-00000090").exists()
