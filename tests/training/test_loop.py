"""training/loop.py: what a step does, and what it refuses to do."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from hybridvit.config import load_recipe
from hybridvit.errors import ConfigError, DataError, TrainingError
from hybridvit.training.loop import fit
from hybridvit.training.optim import describe
from hybridvit.training.trainer import Trainer
from hybridvit.weights.load import load, read_checkpoint

PrepareRun = Callable[..., Trainer]


def metrics(run: Trainer) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run.out / "metrics.jsonl").read_text().splitlines()]


def test_training_learns_and_exports_a_file_that_needs_nothing_else(prepare_run: PrepareRun) -> None:
    run = prepare_run("run", ["mix.mixup=0", "mix.cutmix=0", "model.drop_path_rate=0", "schedule.epochs=12"])
    fit(run)
    assert run.counters.best is not None
    assert run.counters.best["top1"] > 90
    model = load(run.out / "best.safetensors")
    assert model.label_names == ["a", "b", "c"]
    assert model.preprocess == run.recipe.preprocess
    assert read_checkpoint(run.out / "best.safetensors").recipe == run.recipe.to_dict()


def test_accumulated_chunks_give_the_gradient_of_the_whole_batch(prepare_run: PrepareRun) -> None:
    """Without BatchNorm's batch statistics, mixing and random depth, which belong to a chunk."""
    calm = ["mix.mixup=0", "mix.cutmix=0", "augment.erasing=0", "model.drop_path_rate=0", "precision=float64"]
    calm += ["ema.decay=0", "schedule.epochs=2"]
    weights = []
    for name, device_batch in (("whole", 12), ("accumulated", 3)):
        run = prepare_run(name, [*calm, f"device_batch={device_batch}"])
        freeze_batchnorm(run.model)
        fit(run)
        weights.append(run.model.state_dict())
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-9, atol=1e-9)


def freeze_batchnorm(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign]
            module.training = False


def test_a_nonfinite_step_is_skipped_counted_and_leaves_no_trace(prepare_run: PrepareRun) -> None:
    run = prepare_run("run", ["ema.decay=0"])
    fc = run.model.head
    assert isinstance(fc, nn.Module)
    calls = 0

    def poison(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        nonlocal calls
        calls += run.model.training
        return (inputs[0] * (torch.inf if run.model.training and calls == 5 else 1.0),)

    fc.register_forward_pre_hook(poison)
    said = io.StringIO()
    run.reporter.console = Console(file=said)
    fit(run)
    assert run.counters.skipped == 1
    assert "step 3 is skipped" in said.getvalue()
    assert all(torch.isfinite(tensor).all() for tensor in run.model.state_dict().values())
    assert metrics(run)[-1]["skipped"] == 1


def test_too_many_nonfinite_steps_stop_with_the_step_the_rate_the_files_and_the_layer(
    prepare_run: PrepareRun,
) -> None:
    run = prepare_run("run", ["optimizer.skip_limit=2", "schedule.warmup_epochs=0"])
    norm = run.model.get_submodule("stages.1.blocks.0.norm1")
    assert isinstance(norm.bias, torch.Tensor)
    norm.register_forward_hook(lambda module, inputs, output: output * torch.inf)
    with pytest.raises(TrainingError) as error:
        fit(run)
    message = str(error.value)
    assert "3 steps were not finite" in message
    assert "The last was step 3 at learning rate" in message
    assert "first not finite is the output of stages.1.blocks.0.norm1" in message
    assert ".png" in message
    assert all(torch.isfinite(tensor).all() for tensor in run.model.state_dict().values())


def test_batchnorm_statistics_that_overflow_are_undone(prepare_run: PrepareRun) -> None:
    run = prepare_run("run", ["optimizer.skip_limit=0"])
    norm = next(module for module in run.model.modules() if isinstance(module, nn.BatchNorm2d))
    assert norm.running_var is not None
    before = norm.running_var.clone()
    norm.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 1e30,))  # the variance overflows, the output not
    with pytest.raises(TrainingError, match=r"first not finite is the statistics stages.*running_var"):
        fit(run)
    assert torch.equal(norm.running_var, before)


def test_a_broken_training_picture_is_skipped_and_counted(prepare_run: PrepareRun, tmp_path: Path) -> None:
    prepare_run("only to make the pictures").close()
    (tmp_path / "pictures" / "train" / "b" / "003.png").write_bytes(b"no picture")
    said = io.StringIO()
    run = prepare_run("run", console=Console(file=said))
    fit(run)
    assert said.getvalue().count("003.png cannot be read; another picture takes its place") == 1
    assert metrics(run)[-1]["broken_train"] == 1


def test_too_many_broken_pictures_stop_the_run_and_name_them(prepare_run: PrepareRun, tmp_path: Path) -> None:
    prepare_run("only to make the pictures").close()
    for number in range(4):
        (tmp_path / "pictures" / "train" / "b" / f"00{number}.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"of 36 training pictures cannot be read(.|\n)*b/00\d\.png"):
        fit(prepare_run("run", ["data.broken_limit=0.05"]))


def test_no_broken_picture_is_tolerated_where_none_is_allowed(prepare_run: PrepareRun, tmp_path: Path) -> None:
    prepare_run("only to make the pictures").close()
    (tmp_path / "pictures" / "train" / "b" / "003.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1 of 36 .* data\.broken_limit \(0\) allows(.|\n)*--set data\.broken_limit"):
        fit(prepare_run("run", ["data.broken_limit=0"]))


def test_an_odd_chunk_cannot_be_mixed(prepare_run: PrepareRun) -> None:
    with pytest.raises(ConfigError, match="device_batch must be even, found 3"):
        prepare_run("run", ["device_batch=3"])


def test_an_epoch_without_a_full_batch_is_refused(prepare_run: PrepareRun) -> None:
    with pytest.raises(DataError, match="36 training pictures do not fill one batch of 48"):
        prepare_run("run", ["global_batch=48", "device_batch=48"])


def test_an_unknown_model_or_optimizer_names_the_nearest(prepare_run: PrepareRun) -> None:
    with pytest.raises(ConfigError, match="cvt_nano"):
        prepare_run("run", ["model.name=cvt_namo"])
    with pytest.raises(ConfigError, match="adamww"):
        prepare_run("run", ["optimizer.name=adamww"])


def test_an_unwritable_folder_is_found_before_training(prepare_run: PrepareRun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainingError, match=r"cannot be written.*Choose another folder with --out"):
        prepare_run("file/run")


def test_weights_of_another_class_count_keep_all_but_the_classifier(prepare_run: PrepareRun, tmp_path: Path) -> None:
    first = prepare_run("first", ["schedule.epochs=2"])
    fit(first)
    said = io.StringIO()
    best = tmp_path / "first" / "best.safetensors"
    (tmp_path / "pictures" / "train" / "c").rename(tmp_path / "c")
    for path in (tmp_path / "pictures" / "test" / "c").iterdir():
        path.unlink()
    (tmp_path / "pictures" / "test" / "c").rmdir()
    second = prepare_run("second", init=best, console=Console(file=said))
    assert "knows 3 classes, this run 2: the classifier starts afresh" in said.getvalue().replace("\n", " ")
    state = read_checkpoint(best).state
    for name, tensor in second.model.state_dict().items():
        assert name.startswith("head.") or torch.equal(tensor, state[name]), name
    second.close()


def test_weights_of_another_architecture_are_refused(prepare_run: PrepareRun, tmp_path: Path) -> None:
    fit(prepare_run("first", ["schedule.epochs=2"]))
    with pytest.raises(ValueError, match="is a cvt_nano, the recipe trains a cmt_nano"):
        prepare_run("second", ["model.name=cmt_nano"], init=tmp_path / "first" / "best.safetensors")


def test_position_tables_of_another_size_are_resized(prepare_run: PrepareRun, tmp_path: Path) -> None:
    cmt = ["model.name=cmt_nano", "schedule.epochs=2"]
    fit(prepare_run("first", cmt))
    run = prepare_run("second", [*cmt, "preprocess.image_size=[48, 64]"], init=tmp_path / "first" / "best.safetensors")
    donor: Any = load(tmp_path / "first" / "best.safetensors")
    donor.set_input_size((48, 64))
    assert all(torch.equal(donor.state_dict()[name], tensor) for name, tensor in run.model.state_dict().items())
    fit(run)


def test_the_printed_schedule_is_the_one_that_is_run() -> None:
    text = describe(load_recipe("digits", ["schedule.warmup_epochs=4", "schedule.warmup_lr=0"]), num_images=898)
    assert "28 steps of 32 per epoch" in text
    assert "epoch    1 begins with learning rate 0\n" in text
    assert f"epoch    2 begins with learning rate {2e-3 / 4:.3g}\n" in text
