"""Freezing, drop path warm-up, distillation, precise BatchNorm, the average, and every recipe's building blocks."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
from timm.layers import DropPath
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hybridvit.config import DistillSection, Preprocess, list_recipes, load_recipe
from hybridvit.errors import ConfigError
from hybridvit.tasks import find_task
from hybridvit.tasks.mixing import loss_of
from hybridvit.tasks.teacher import Teacher
from hybridvit.training.building import build_model, with_synchronised_batchnorm
from hybridvit.training.loop import fit
from hybridvit.training.optim import Schedule, create_optimizer
from hybridvit.training.trainer import Trainer
from hybridvit.weights import checkpoint

PrepareRun = Callable[..., Trainer]
CPU = torch.device("cpu")
OWN_PREPROCESSING = ("digits", "segmentation_demo", "cmt_ti_flyegle")  # flyegle's training evaluates at 184 -> 160


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_builds_model_optimizer_schedule_and_transforms(name: str) -> None:
    recipe = load_recipe(name)
    with torch.device("meta"):
        model = build_model(recipe, num_classes=10)
    optimizer = create_optimizer(model, recipe.optimizer)
    steps = 1000 if recipe.schedule.warmup_steps else 10
    schedule = Schedule(optimizer, recipe.schedule, steps_per_epoch=steps)
    assert schedule.epochs == recipe.schedule.epochs + recipe.schedule.cooldown_epochs
    rates = [
        schedule.set(step) for step in range(0, steps * schedule.epochs, steps // 2 if schedule.epochs > 1 else 20)
    ]
    assert max(rates) == pytest.approx(recipe.optimizer.lr, rel=0.2)
    assert rates[-1] < 0.11 * max(rates)
    task, device_batch = find_task(recipe.task), recipe.device_batch or recipe.global_batch
    assert task.train_transform(recipe)
    assert task.criterion(recipe, num_classes=11, device=CPU, device_batch=device_batch, steps=10)
    expected = Preprocess.from_pretrained_cfg(model.pretrained_cfg)
    if recipe.preprocess.image_size == expected.image_size and name not in OWN_PREPROCESSING:
        assert recipe.preprocess == expected


def test_frozen_parameters_and_their_norms_stay(prepare_run: PrepareRun) -> None:
    run = prepare_run("run", ["model.freeze=[stages.0.*, stages.1.*]", "schedule.epochs=2"])
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    fit(run)
    after = run.model.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert not {name for name in changed if name.startswith(("stages.0.", "stages.1."))}
    assert {"head.weight", "stages.2.embed.conv.weight", "stages.2.blocks.0.attn.k.norm.running_mean"} <= changed


def test_freezing_nothing_or_everything_is_refused(prepare_run: PrepareRun) -> None:
    with pytest.raises(
        ConfigError, match=r"backbone.* matches no parameter; their names begin with head, norm, stages"
    ):
        prepare_run("run", ["model.freeze=[backbone.*]"])
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        prepare_run("run", ["model.freeze=['*']"])


def test_drop_path_warms_up(prepare_run: PrepareRun) -> None:
    run = prepare_run("run", ["model.drop_path_rate=0.4", "model.drop_path_warmup_epochs=2"])
    paths = [module for module in run.model.modules() if isinstance(module, DropPath)]
    seen = []
    for step in (0, 3, 6, 9):
        run.modes.train(step)
        seen.append(max(path.drop_prob for path in paths))
    assert seen == pytest.approx([0.0, 0.2, 0.4, 0.4])
    run.close()


def teacher_file(folder: Path) -> Path:
    """A checkpoint of three classes with a normalisation and size of its own."""
    overrides = [
        "preprocess.mean=[0.1, 0.2, 0.3]",
        "preprocess.std=[0.3, 0.2, 0.1]",
        "preprocess.image_size=40",
        "seed=9",
    ]
    recipe = load_recipe("digits", overrides)
    file = folder / "teacher.safetensors"
    checkpoint.save(build_model(recipe, num_classes=3), file, preprocess=recipe.preprocess)
    return file


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_distillation_blends_the_students_loss_with_the_teachers(tmp_path: Path, kind: Literal["soft", "hard"]) -> None:
    section = DistillSection(teacher=str(teacher_file(tmp_path)), kind=kind, alpha=0.25, temperature=2.0)
    preprocess = load_recipe("digits").preprocess
    teacher = Teacher(section, preprocess=preprocess, num_classes=3, device=CPU)
    pixels, own = torch.rand(2, 3, 40, 40), torch.tensor(7.0)
    answers = teacher.model(normalized(pixels, (0.1, 0.2, 0.3), (0.3, 0.2, 0.1)))
    logits = torch.randn(2, 3)
    if kind == "hard":
        taught = nn.functional.cross_entropy(logits, answers.argmax(dim=1))
    else:
        p, q = (answers / 2).softmax(dim=1), (logits / 2).softmax(dim=1)
        taught = 4 * (p * (p / q).log()).sum(dim=1).mean()
    found = teacher.blend(own, logits, normalized(pixels, preprocess.mean, preprocess.std))
    torch.testing.assert_close(found, 0.75 * own + 0.25 * taught)


def normalized(pixels: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def test_a_run_with_a_teacher_trains(prepare_run: PrepareRun, tmp_path: Path) -> None:
    run = prepare_run("student", [f"distill.teacher={teacher_file(tmp_path)}", "schedule.epochs=2"])
    fit(run)
    assert run.counters.skipped == 0


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    section = DistillSection(teacher=str(teacher_file(tmp_path)))
    with pytest.raises(ConfigError, match="knows 3 classes, this run 2"):
        Teacher(section, preprocess=load_recipe("digits").preprocess, num_classes=2, device=CPU)


@pytest.mark.parametrize(("teachers", "students"), [(1, 3), (3, 1)])
def test_a_teacher_of_other_channels_is_refused(tmp_path: Path, teachers: int, students: int) -> None:
    recipe = load_recipe("digits", [f"preprocess.{name}={[0.5] * teachers}" for name in ("mean", "std")])
    file = tmp_path / "teacher.safetensors"
    checkpoint.save(build_model(recipe, num_classes=3), file, preprocess=recipe.preprocess)
    preprocess = load_recipe("digits", [f"preprocess.{name}={[0.5] * students}" for name in ("mean", "std")]).preprocess
    with pytest.raises(ConfigError, match=f"sees pictures of {teachers} channels, this run {students}"):
        Teacher(DistillSection(teacher=str(file)), preprocess=preprocess, num_classes=3, device=CPU)


def test_precise_batchnorm_takes_the_mean_over_batches(prepare_run: PrepareRun) -> None:
    """Three batches are the whole training set, so the first layer's mean has one value."""
    plain = ["ema.decay=0", "augment.color_jitter=0", "schedule.epochs=2", "device_batch=12"]
    whole = ["augment.crop_scale=[1, 1]", "augment.crop_ratio=[1, 1]", "augment.rotate=0", "augment.translate=0"]
    run = prepare_run("run", [*plain, *whole, "augment.zoom=[1, 1]", "augment.shear=0", "batchnorm.precise_batches=3"])
    means: list[torch.Tensor] = []
    norm = next(module for module in run.model.modules() if isinstance(module, nn.BatchNorm2d))
    norm.register_forward_pre_hook(
        lambda module, x: means.append(x[0].mean(dim=(0, 2, 3))) if norm.momentum is None else None
    )
    fit(run)
    assert len(means) == 3
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(dim=0), rtol=1e-4, atol=1e-6)
    assert norm.momentum == 0.1


def test_precise_batchnorm_counts_global_batches(prepare_run: PrepareRun) -> None:
    run = prepare_run(
        "run", ["ema.decay=0", "schedule.epochs=1", "schedule.warmup_epochs=0", "batchnorm.precise_batches=2"]
    )
    norm = next(module for module in run.model.modules() if isinstance(module, nn.BatchNorm2d))
    seen = []
    norm.register_forward_pre_hook(lambda module, x: seen.append(len(x[0])) if module.momentum is None else None)
    fit(run)
    assert seen == [6, 6, 6, 6]  # two batches of 12 in chunks of 6


def test_distillation_keeps_the_students_precision(prepare_run: PrepareRun, tmp_path: Path) -> None:
    run = prepare_run("run", [f"distill.teacher={teacher_file(tmp_path)}", "schedule.epochs=2", "precision=float64"])
    fit(run)
    assert run.counters.best is not None


def test_shared_statistics_are_for_cuda_and_refused_elsewhere() -> None:
    recipe = load_recipe("digits")
    model = with_synchronised_batchnorm(build_model(recipe, num_classes=3), torch.device("cuda"))
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    assert norms
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    assert model.state_dict().keys() == build_model(recipe, num_classes=3).state_dict().keys()
    with pytest.raises(ConfigError, match=r"batchnorm\.sync works between CUDA devices only"):
        with_synchronised_batchnorm(build_model(recipe, num_classes=3), CPU)


def test_biases_and_norms_are_not_decayed_unless_asked() -> None:
    recipe = load_recipe("digits")
    model = build_model(recipe, num_classes=3)
    no_decay = {
        id(p)
        for g in create_optimizer(model, recipe.optimizer).param_groups
        if not g["weight_decay"]
        for p in g["params"]
    }
    for name, parameter in model.named_parameters():
        assert (id(parameter) in no_decay) == (parameter.ndim <= 1 or "cls_token" in name), name


def test_layer_decay_lowers_the_rate_towards_the_input() -> None:
    recipe = load_recipe("digits", ["optimizer.layer_decay=0.5"])
    model = build_model(recipe, num_classes=3)
    optimizer = create_optimizer(model, recipe.optimizer)
    Schedule(optimizer, recipe.schedule, steps_per_epoch=10).set(30)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    by_name = {name: rates[id(parameter)] for name, parameter in model.named_parameters()}
    assert by_name["stages.0.embed.conv.weight"] < by_name["stages.2.embed.conv.weight"] < by_name["head.weight"]


def test_a_mixed_label_that_is_whole_has_the_plain_loss() -> None:
    logits, labels = torch.randn(4, 5, dtype=torch.float64), torch.tensor([0, 3, 2, 2])
    smoothed = nn.functional.one_hot(labels, 5) * 0.9 + 0.1 / 5
    torch.testing.assert_close(loss_of(logits, smoothed, smoothing=0.0), loss_of(logits, labels, smoothing=0.1))


def test_the_average_copies_at_first_and_then_lags(prepare_run: PrepareRun) -> None:
    run = prepare_run("run", ["ema.decay=0.9", "ema.warmup=false"])
    assert run.ema is not None
    run.ema.update(run.model, 1)
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.add_(1.0)
    run.ema.update(run.model, 2)
    for averaged, parameter in zip(run.ema.model.parameters(), run.model.parameters(), strict=True):
        torch.testing.assert_close(averaged, parameter - 0.9)
    run.close()


def test_a_warm_up_of_steps_rises_linearly_and_leaves_the_rest_as_it_is() -> None:
    """mmdetection's: lr * (1 - (1 - step / steps) * (1 - ratio))."""
    options = [
        "schedule.name=multistep",
        "schedule.milestones=[8, 11]",
        "schedule.epochs=12",
        "schedule.warmup_epochs=0",
    ]
    recipe = load_recipe(
        "digits", [*options, "schedule.warmup_steps=50", "schedule.warmup_lr=2e-6", "schedule.per_step=true"]
    )
    schedule = Schedule(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2e-3), recipe.schedule, steps_per_epoch=10)
    for step in (0, 1, 25, 49):
        assert schedule.set(step) == pytest.approx(2e-3 * (1 - (1 - step / 50) * (1 - 1e-3)))
    assert schedule.set(50) == 2e-3
    assert [schedule.set(step) for step in (78, 85, 115)] == pytest.approx([2e-3, 2e-4, 2e-5])
    assert schedule.set(25) == pytest.approx(2e-3 * (1 - 0.5 * (1 - 1e-3)))  # a pure function of the step
