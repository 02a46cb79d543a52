"""Every published implementation's file, in its own container and at full size, opened and exported through the command line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import foreign
import golden
from hybridvit.cli.main import main
from hybridvit.weights import checkpoint, mapping
from hybridvit.weights.load import load, read_checkpoint
from hybridvit.weights.tables import SOURCES
from support import relative_error

ARCHITECTURES = {
    "microsoft": "cvt_13",
    "transformers": "cvt_13_gelu",
    "paddlevit": "cvt_13",
    "paddleclas": "cvt_13",
    "huawei": "cmt_ti",
    "flyegle": "cmt_ti_flyegle",
    "kecam": "cmt_ti_kecam_port",
}


@pytest.fixture(scope="module", params=foreign.CASES)
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """(source, its file, the file converted)."""
    folder = tmp_path_factory.mktemp(request.param)
    file, out = foreign.golden_file(request.param, folder), folder / "ours.safetensors"
    assert main(["convert", str(file), str(out)]) == 0
    return request.param, file, out


def build(out: Path) -> Any:
    """The converted model, with everything off that is random in training."""
    found = read_checkpoint(out)
    rates = dict.fromkeys(("attn_drop_rate", "proj_drop_rate"), 0.0) if "flyegle" in found.architecture else {}
    found.model_args.update(rates, drop_rate=0.0)
    return checkpoint.build(found, name=str(out))


def answer(answers: dict[str, np.ndarray], name: str) -> torch.Tensor:
    return torch.from_numpy(answers[name])


def test_a_converted_file_computes_what_its_source_computes(converted: tuple[str, Path, Path]) -> None:
    source_name, _, out = converted
    manifest, _, answers = foreign.load(source_name)
    model = build(out)
    assert model.architecture == ARCHITECTURES[source_name]
    x = torch.from_numpy(golden.images(*manifest["image_size"]))
    with torch.no_grad():
        assert relative_error(model(x.float()), answer(answers, "eval_logits")) < 1e-4
        assert relative_error(model.double()(x), answer(answers, "eval_logits")) < 1e-9
        assert relative_error(model.float().train()(x.float()), answer(answers, "train_logits")) < 1e-4
    logits = model.double()(x)
    assert relative_error(logits, answer(answers, "train_logits")) < 1e-9

    if "grad_keys" not in answers:
        assert source_name == "kecam"
        return
    (logits * torch.from_numpy(golden.cotangent(logits.shape[1]))).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    theirs = mapping.to_theirs(SOURCES[source_name], gradients, model.config.heads)
    assert set(theirs) == {str(key) for key in answers["grad_keys"]}
    # Some gradients are zero by construction (a key's bias moves all scores of a query alike): only rounding is left.
    floor = 1e-6 * answers["grad_norms"].max()
    for key, norm, dot in zip(answers["grad_keys"], answers["grad_norms"], answers["grad_dots"], strict=True):
        gradient = theirs[str(key)].numpy()
        assert abs(np.linalg.norm(gradient) - norm) < 1e-9 * max(norm, floor), key
        probe = golden.probe(str(key), gradient.shape)
        assert abs((gradient * probe).sum() - dot) < 1e-9 * max(abs(dot), norm, floor), key


def test_a_converted_file_exports_to_the_same_bits(converted: tuple[str, Path, Path], tmp_path: Path) -> None:
    source_name, _, out = converted
    _, arrays, _ = foreign.load(source_name)
    back = tmp_path / "back"
    assert main(["export-weights", str(out), "--to", source_name, str(back)]) == 0
    written = foreign.read_back(back, SOURCES[source_name].format)
    assert set(written) == set(arrays)
    for key, array in arrays.items():
        assert written[key].dtype == array.dtype, key
        np.testing.assert_array_equal(written[key], array, err_msg=key)


def test_the_checkpoint_remembers_where_it_came_from(converted: tuple[str, Path, Path]) -> None:
    source_name, file, out = converted
    origin = read_checkpoint(out).origin
    assert origin is not None
    assert (origin["source"], origin["file"]) == (source_name, file.name)
    assert len(origin["sha256"]) == 64


def test_keras_files_with_tensorflows_names_hold_the_same(tmp_path: Path) -> None:
    _, arrays, answers = foreign.load("kecam")
    renamed = foreign.as_tensorflow(arrays)
    foreign.write_keras(tmp_path / "tf.h5", renamed)
    model = load(tmp_path / "tf.h5")
    with torch.no_grad():
        logits = model.double()(torch.from_numpy(golden.images(160, 160)))
    assert relative_error(logits, answer(answers, "eval_logits")) < 1e-9

    assert main(["convert", str(tmp_path / "tf.h5"), str(tmp_path / "ours.safetensors")]) == 0
    assert main(["export-weights", str(tmp_path / "ours.safetensors"), "--to", "kecam", str(tmp_path / "back.h5")]) == 0
    back = foreign.read_back(tmp_path / "back.h5", "keras")
    assert set(back) == set(renamed)
    assert all(np.array_equal(back[key], renamed[key]) for key in renamed)
