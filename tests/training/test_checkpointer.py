"""training/checkpointer.py and training/same.py: whose folder it is, whether it has room, and whether the data are the same."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hybridvit.data.opening import open_splits
from hybridvit.errors import ConfigError, TrainingError
from hybridvit.training.checkpointer import Claim
from hybridvit.training.loop import fit
from hybridvit.training.same import data_digest
from hybridvit.training.state import list_states, save_state
from hybridvit.training.trainer import Trainer

PrepareRun = Callable[..., Trainer]


def test_a_folder_is_claimed_once_within_a_process_and_a_refused_claim_frees_nothing(tmp_path: Path) -> None:
    first = Claim(tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    for path in (tmp_path / "run", tmp_path / "link", tmp_path / "run" / ".." / "run"):
        with pytest.raises(TrainingError, match="This process is training in"):
            Claim(path)
    child = os.fork()
    if child == 0:  # another process, which knows of no claims of its own
        Claim.held.clear()
        try:
            Claim(tmp_path / "run")
        except TrainingError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    first.close()
    first.close()
    Claim(tmp_path / "run").close()


def test_what_older_states_take_is_room(prepare_run: PrepareRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = prepare_run("run")
    fit(run)
    taken = sum(path.stat().st_size for path in run.out.iterdir() if path.suffix in (".pt", ".safetensors"))
    needed = sum(tensor.nbytes for tensor in run.model.state_dict().values()) * (3 * 4 + 2)
    free = needed - taken // 2
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, free))
    prepare_run("run", resume=True).close()
    with pytest.raises(TrainingError, match="MB left"):
        prepare_run("other")


def test_class_folders_that_changed_places_cannot_be_resumed(prepare_run: PrepareRun, tmp_path: Path) -> None:
    """Their pictures have the same names, so that only contents tell."""
    fit(prepare_run("run", ["schedule.epochs=2"]))
    train = tmp_path / "pictures" / "train"
    for old, new in (("a", "x"), ("b", "a"), ("x", "b")):
        (train / old).rename(train / new)
    with pytest.raises(ConfigError, match="began with other training pictures"):
        prepare_run("run", ["schedule.epochs=2"], resume=True)


def test_a_data_set_may_move_but_not_rename_its_pictures(make_pictures: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_pictures()
    digest = data_digest(open_splits(folder).train)
    moved = folder.rename(tmp_path / "elsewhere")
    assert data_digest(open_splits(moved).train) == digest
    (moved / "train" / "a" / "005.png").rename(moved / "train" / "a" / "0055.png")
    assert data_digest(open_splits(moved).train) != digest


def test_states_of_the_first_version_go_on(prepare_run: PrepareRun) -> None:
    """They know no task, no digest, and were saved after their step's evaluation."""
    run = prepare_run("run")
    fit(run)
    newest = list_states(run.out)[0]
    state = torch.load(newest, weights_only=True)
    del state["recipe"]["task"], state["data"]
    for name in ("evaluated", "rescaled", "loss_parts"):
        del state["counters"][name]
    save_state(run.out, 12, state)
    again = prepare_run("run", resume=True)
    assert again.finished
    assert not again.evaluation_due
    fit(again)
