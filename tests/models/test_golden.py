"""What four published implementations compute, on the plain models: logits in both modes, and the gradient of every parameter."""

from pathlib import Path

import pytest
import torch

import golden
from hybridvit.models import catalog
from hybridvit.weights import mapping
from hybridvit.weights.tables import SOURCES
from support import relative_error

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = {
    "microsoft-cvt_13-224x224": "cvt_13",
    "transformers-cvt_13-224x224": "cvt_13_gelu",
    "huawei-cmt_ti-160x160": "cmt_ti",
    "flyegle-cmt_ti-160x160": "cmt_ti_flyegle",
}


def build(case: str, dtype: torch.dtype) -> tuple[torch.nn.Module, mapping.Source, dict]:
    manifest, arrays, answers = golden.load(GOLDEN / f"{case}.json")
    source = SOURCES[manifest["source"]]
    dropout_rates = {"drop_rate": 0.0, "attn_drop_rate": 0.0}
    if "cmt" in case:
        dropout_rates["proj_drop_rate"] = 0.0
    model = catalog.create(CASES[case], **dropout_rates)
    theirs = {source.canonical(key): torch.tensor(array) for key, array in arrays.items()}
    mapped = mapping.to_ours(source, theirs, model.state_dict(), model.config.heads)
    model.load_state_dict(mapped.state)
    return model.to(dtype), source, answers


@pytest.mark.parametrize("case", CASES)
def test_logits_and_gradients_equal_the_published_implementation_in_float64(case: str) -> None:
    model, source, answers = build(case, torch.float64)
    x = torch.from_numpy(golden.images(*model.pretrained_cfg["input_size"][1:]))
    with torch.no_grad():
        assert relative_error(model.eval()(x), torch.from_numpy(answers["eval_logits"])) < 1e-9
    logits = model.train()(x)
    assert relative_error(logits, torch.from_numpy(answers["train_logits"])) < 1e-9

    (logits * torch.from_numpy(golden.cotangent(logits.shape[1]))).sum().backward()
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    theirs = mapping.to_theirs(source, ours, model.config.heads)
    assert set(theirs) == {str(key) for key in answers["grad_keys"]}
    # Some gradients are zero by construction (a key's bias moves all scores of a query alike): only rounding is left of them.
    floor = 1e-6 * answers["grad_norms"].max()
    for key, norm, dot in zip(answers["grad_keys"], answers["grad_norms"], answers["grad_dots"], strict=True):
        gradient = theirs[str(key)].numpy()
        probe = golden.probe(str(key), gradient.shape)
        assert abs((gradient**2).sum() ** 0.5 - norm) < 1e-9 * max(norm, floor), key
        assert abs((gradient * probe).sum() - dot) < 1e-9 * max(abs(dot), norm, floor), key


@pytest.mark.parametrize("case", CASES)
def test_float32_logits_are_within_1e_4_of_the_published_implementation(case: str) -> None:
    model, _, answers = build(case, torch.float32)
    x = torch.from_numpy(golden.images(*model.pretrained_cfg["input_size"][1:])).float()
    with torch.no_grad():
        assert relative_error(model.eval()(x), torch.from_numpy(answers["eval_logits"])) < 1e-4
    assert relative_error(model.train()(x).detach(), torch.from_numpy(answers["train_logits"])) < 1e-4
