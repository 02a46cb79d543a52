"""torch.compile in training. Traced but not turned into machine code (aot_eager), which takes minutes on a CPU."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from hybridvit.training.guard import first_nonfinite_module
from hybridvit.training.loop import fit
from hybridvit.training.state import list_states
from hybridvit.training.trainer import Trainer

PrepareRun = Callable[..., Trainer]
SHORT = ("precision=float64", "mix.mixup=0", "mix.cutmix=0", "schedule.epochs=2", "run.workers=0")
EVERYTHING = ("ema.decay=0.9", "model.grad_checkpointing=true", "model.drop_path_warmup_epochs=1")


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the classes that get compiled."""
    real, names = nn.Module.compile, list[str]()

    def compile_traced(self: nn.Module, **options: Any) -> None:
        names.append(type(self).__name__)
        real(self, backend="aot_eager", **options)

    monkeypatch.setattr(nn.Module, "compile", compile_traced)
    torch._dynamo.reset()
    counters.clear()
    yield names
    torch._dynamo.reset()


def test_a_compiled_run_has_the_weights_of_a_plain_one_and_resumes_exactly(
    prepare_run: PrepareRun, compiled: list[str]
) -> None:
    plain = prepare_run("plain", [*SHORT, *EVERYTHING])
    fit(plain)
    assert not compiled
    whole = prepare_run("whole", [*SHORT, *EVERYTHING, "run.compile=true"])
    fit(whole)
    assert compiled == ["CvT"]
    assert sum(counters["recompile_limit"].values()) == 0
    state = whole.evaluated.state_dict()
    for name, tensor in plain.evaluated.state_dict().items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-7, atol=1e-9)
    list_states(whole.out)[0].unlink()
    resumed = prepare_run("whole", [*SHORT, *EVERYTHING, "run.compile=true"], resume=True)
    assert resumed.counters.step == 5
    fit(resumed)
    for name, tensor in whole.evaluated.state_dict().items():
        assert torch.equal(resumed.evaluated.state_dict()[name], tensor), name


def test_compilation_waits_until_drop_path_has_warmed_up(prepare_run: PrepareRun, compiled: list[str]) -> None:
    run = prepare_run("run", [*SHORT, "model.drop_path_warmup_epochs=1", "run.compile=true"])
    run.modes.train(2)
    assert not compiled
    run.modes.train(3)
    run.modes.train(4)
    assert compiled == ["CvT"]
    run.close()


def test_a_compiled_model_tells_where_it_went_wrong(prepare_run: PrepareRun, compiled: list[str]) -> None:
    run = prepare_run("run", [*SHORT, "run.compile=true"])
    run.modes.train(0)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    run.net(images)
    run.model.get_submodule("stages.0.embed.norm").register_forward_hook(lambda *_: None)
    run.model.get_submodule("stages.1.blocks.0.attn.k.norm").running_mean.fill_(torch.nan)  # type: ignore[union-attr, operator]
    assert (
        first_nonfinite_module(run.model, lambda: run.model(images))
        == "the statistics stages.1.blocks.0.attn.k.norm.running_mean"
    )
    run.close()
