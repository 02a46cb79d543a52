"""Lower precision: it trains, and resumes exactly, the loss scale included."""

from collections.abc import Callable

import pytest
import torch

from hybridvit.errors import TrainingError
from hybridvit.training.loop import fit
from hybridvit.training.state import list_states
from hybridvit.training.trainer import Trainer

PrepareRun = Callable[..., Trainer]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_trains_and_resumes_exactly(prepare_run: PrepareRun, precision: str) -> None:
    options = [f"precision={precision}", "mix.mixup=0", "mix.cutmix=0"]
    whole = prepare_run("whole", options)
    fit(whole)
    assert whole.counters.skipped == 0
    assert all(torch.isfinite(tensor).all() for tensor in whole.model.state_dict().values())
    expected = torch.load(list_states(whole.out)[0], weights_only=True)
    list_states(whole.out)[0].unlink()
    resumed = prepare_run("whole", options, resume=True)
    assert resumed.counters.step == 11
    fit(resumed)
    found = torch.load(list_states(whole.out)[0], weights_only=True)
    assert found["scaler"] == expected["scaler"]
    assert all(torch.equal(found["model"][name], tensor) for name, tensor in expected["model"].items())


def test_a_loss_that_float16_cannot_hold_is_counted_but_an_overflowing_gradient_is_not(prepare_run: PrepareRun) -> None:
    options = ["precision=float16", "optimizer.skip_limit=1", "mix.mixup=0", "mix.cutmix=0"]
    overflowing = prepare_run("overflowing", options)
    overflowing.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    fit(overflowing)
    assert overflowing.counters.skipped == 0
    assert overflowing.scaler.get_scale() < 2.0**24
    assert overflowing.counters.rescaled > 0

    never = prepare_run("never", options)
    never.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**3)
    for parameter in never.model.parameters():
        parameter.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(TrainingError, match="2 steps were not finite"):
        fit(never)
    assert never.counters.rescaled == 3  # down to 1

    hopeless = prepare_run("hopeless", options)
    hopeless.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**100)
    with pytest.raises(TrainingError, match="Not one step was taken"):
        fit(hopeless)

    lost = prepare_run("lost", options)
    lost.model.register_forward_hook(lambda module, inputs, output: output * torch.nan)
    with pytest.raises(TrainingError, match="2 steps were not finite"):
        fit(lost)
