"""compare/align.py and compare/golden.py: what is alike is called alike, and what parts is found at the place where it begins."""

import copy
import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import foreign
from hybridvit.compare import golden
from hybridvit.compare.align import Side, align
from hybridvit.errors import CheckpointError
from hybridvit.models import catalog
from hybridvit.weights.load import load
from support import pictures, randomise

EXAMPLE = Path(__file__).parents[2] / "examples" / "align_transformers.py"


def model_of(name: str, **changes: Any) -> Any:
    return randomise(catalog.create(name, num_classes=5, **changes))


def where(a: Any, b: Any, phase: str, x: torch.Tensor | None = None) -> str | None:
    first = align(a, b, pictures(2, 32, 48) if x is None else x).first(phase)
    return first.name if first else None


@pytest.mark.parametrize("name", ["cvt_nano", "cmt_nano"])
def test_a_model_is_aligned_with_its_copy(name: str) -> None:
    model = model_of(name)
    found = align(model, copy.deepcopy(model), pictures(2, 32, 48))
    assert found.aligned
    assert not found.only_a
    assert not found.only_b
    assert {row.phase for row in found.rows} == {"weights", "eval", "train", "gradient"}
    gradients = {row.name for row in found.rows if row.phase == "gradient"}
    assert gradients == {key for key, _ in model.named_parameters()}
    assert all(row.difference == 0 for row in found.rows)


def test_another_activation_is_found_in_the_first_mlp() -> None:
    ours, gelu = model_of("cvt_nano"), model_of("cvt_nano", activation="gelu")
    found = align(ours, gelu, pictures(2, 32, 48))
    assert found.first("weights") is None
    for phase in ("eval", "train"):
        first = found.first(phase)
        assert (first.name, first.layer) == ("stages.0.blocks.0.mlp.act", "stages.0.blocks.0.mlp")
    assert found.first("gradient").layer == "head"
    assert "forward, evaluating: part at stages.0.blocks.0.mlp (in it act), by" in "\n".join(found.summary())


def test_the_published_arithmetics_of_cvt_13_part_at_the_first_mlp() -> None:
    a, b = (model_of(name) for name in ("cvt_13", "cvt_13_gelu"))
    assert align(a, b, pictures(1, 64, 64)).first("eval").layer == "stages.0.blocks.0.mlp"


def test_what_only_training_shows_is_found_there() -> None:
    class Frozen(nn.BatchNorm2d):
        def train(self, mode: bool = True) -> "Frozen":
            return super().train(False)

    ours, other = model_of("cmt_nano"), model_of("cmt_nano")
    other.stages[1].blocks[0].ffn.local.norm.__class__ = Frozen
    found = align(ours, other, pictures(2, 32, 48))
    assert found.first("eval") is None
    assert found.first("train").name == "stages.1.blocks.0.ffn.local.norm"


def test_one_changed_weight_is_named_and_so_is_where_it_acts() -> None:
    ours = model_of("cvt_nano")
    other = copy.deepcopy(ours)
    with torch.no_grad():
        other.stages[1].blocks[0].attn.v.linear.weight[3, 5] += 1e-3
    found = align(ours, other, pictures(2, 32, 48))
    weights = [row for row in found.rows if row.phase == "weights" and row.parts]
    assert [row.name for row in weights] == ["stages.1.blocks.0.attn.v.linear.weight"]
    assert found.first("eval").name == "stages.1.blocks.0.attn.v.linear"


def test_a_wrong_gradient_is_found_although_the_forward_pass_agrees() -> None:
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return 2 * gradient

    class Wrong(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return Doubled.apply(super().forward(x))

    ours = model_of("cvt_nano")
    other = copy.deepcopy(ours)
    other.stages[2].blocks[1].mlp.fc1.__class__ = Wrong
    found = align(ours, other, pictures(2, 32, 48))
    assert found.first("train") is None
    first = found.first("gradient")
    assert first.layer == "stages.2.blocks.1.mlp"  # everything behind it, seen from the loss, is still alike
    assert abs(first.difference - 0.5) < 1e-9


def test_a_value_that_is_not_finite_parts() -> None:
    ours = model_of("cmt_nano")
    other = copy.deepcopy(ours)
    with torch.no_grad():
        other.stages[0].embed.norm.bias[0] = float("nan")
    found = align(ours, other, pictures(2, 32, 48))
    assert found.first("eval").name == "stages.0.embed.norm"
    assert "by values that are not finite" in found.summary()[1]
    json.dumps(found.to_dict(), allow_nan=False)


def test_models_of_other_widths_part_by_their_shapes_and_their_extra_layers_are_named() -> None:
    found = align(model_of("cvt_nano"), model_of("cvt_nano", dims=(48, 96, 256), depths=(1, 1, 3)), pictures(2, 32, 32))
    assert found.first("eval").layer == "stages.2.embed"
    assert "whose shapes are" in found.summary()[1]
    assert "stages.2.blocks.2.mlp.fc1" in found.only_b
    assert not found.only_a


def test_chance_is_off_and_the_models_stay_as_they_were() -> None:
    model = model_of("cmt_nano", drop_rate=0.5, drop_path_rate=0.5, attn_drop_rate=0.5, proj_drop_rate=0.5).train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    assert align(model, copy.deepcopy(model).eval(), pictures(2, 32, 48)).aligned
    assert model.training
    assert model.head.drop.p == 0.5
    assert not any(module._forward_hooks for module in model.modules())
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key])


def test_a_model_called_twice_is_compared_call_by_call() -> None:
    class Twice(nn.Module):
        def __init__(self, second: float) -> None:
            super().__init__()
            self.layer, self.second = nn.Linear(4, 4), second

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(self.second * self.layer(x.mean(dim=(1, 2))))

    a, b = (randomise(Twice(second)) for second in (1.0, 2.0))
    assert where(a, b, "eval", pictures(2, 3, 4)) == "layer (call 2)"


def test_a_model_that_is_not_ours_is_read_through_its_side() -> None:
    class Theirs(nn.Module):
        def __init__(self, ours: Any) -> None:
            super().__init__()
            self.inner = copy.deepcopy(ours)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"answer": self.inner(x)}

    ours = model_of("cvt_nano")
    side = Side(
        name="theirs",
        model=Theirs(ours),
        points={"stages.0.embed": ("inner.stages.0.embed", lambda output: output[0]), "norm": "inner.norm"},
        logits=lambda output: output["answer"],
        rename=lambda tensors: {key.removeprefix("inner."): tensor for key, tensor in tensors.items()},
    )
    found = align(ours, side, pictures(2, 32, 32))
    assert found.aligned
    assert [row.name for row in found.rows if row.phase == "eval"] == ["stages.0.embed", "norm", "logits"]


def test_the_example_aligns_transformers_with_ours(capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(EXAMPLE))["main"]
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(" alike, the largest difference is " in line for line in lines)


# ---- golden answers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def huawei(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The model of the golden weights."""
    return load(foreign.golden_file("huawei", tmp_path_factory.mktemp("huawei")))


@pytest.fixture
def answers() -> golden.Golden:
    return golden.read(foreign.GOLDEN / "huawei-cmt_ti-160x160.json")


def test_golden_weights_align_with_golden_answers(huawei: Any, answers: golden.Golden) -> None:
    found = golden.align_with_golden("cmt_tiny.pth", huawei, answers)
    assert found.aligned
    assert {row.phase for row in found.rows} == {"weights", "eval", "train", "gradient"}
    assert len([row for row in found.rows if row.phase == "gradient"]) == len(answers.answers["grad_keys"])
    assert golden.align_with_golden("cmt_tiny.pth", huawei, answers, dtype=torch.float32).first("eval") is None


def test_wrong_answers_are_found_where_they_stand(huawei: Any, answers: golden.Golden) -> None:
    expected = {("eval", "logits"), ("train", "logits")}
    for field in ("eval_logits", "train_logits", "grad_norms", "grad_dots"):
        wrong = answers.answers[field].copy()
        place = np.abs(wrong).argmax() if "logits" in field else {"grad_norms": 50, "grad_dots": 60}[field]
        wrong.flat[place] += 1e-6 * np.abs(wrong).max()
        answers.answers[field] = wrong
        if "grad" in field:
            expected.add(("gradient", str(answers.answers["grad_keys"][place])))
    found = golden.align_with_golden("cmt_tiny.pth", huawei, answers)
    assert {(row.phase, row.name) for row in found.rows if row.parts} == expected


def test_another_arithmetic_parts_from_golden_answers_in_its_logits_only(huawei: Any, answers: golden.Golden) -> None:
    port = catalog.create("cmt_ti_kecam_port")
    port.load_state_dict(huawei.state_dict())
    found = golden.align_with_golden("port", port, answers)
    assert found.first("weights") is None
    assert found.first("eval") is not None


def test_a_model_that_the_source_cannot_express_is_refused(answers: golden.Golden) -> None:
    with pytest.raises(CheckpointError, match="has no place for"):
        golden.align_with_golden("cvt", catalog.create("cvt_nano"), answers)


def test_the_values_that_follow_from_names_are_those_of_the_golden_helper(answers: golden.Golden) -> None:
    _, arrays, _ = foreign.load("huawei")
    for key, (shape, dtype) in list(answers.tensors.items())[::25]:
        np.testing.assert_array_equal(golden.tensor(key, shape, dtype), arrays[key])


@pytest.mark.parametrize(
    ("manifest", "has_answers"),
    [("{}", True), ("[]", True), ("not JSON", True), ('{"source": "huawei"}', True), (None, False), (None, True)],
)
def test_files_that_are_no_golden_answers_are_refused(tmp_path: Path, manifest: str | None, has_answers: bool) -> None:
    path = tmp_path / "x.json"
    if has_answers:
        np.savez(path.with_suffix(".npz"), eval_logits=np.zeros(3))
    path.write_text(manifest or (foreign.GOLDEN / "huawei-cmt_ti-160x160.json").read_text())
    with pytest.raises(CheckpointError):
        golden.read(path)
