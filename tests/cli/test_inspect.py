"""hybridvit inspect: what a file is, and what looks wrong in it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import foreign
import hybridvit
from hybridvit.cli.main import main
from hybridvit.models import catalog
from hybridvit.weights import checkpoint
from hybridvit.weights.tables import PUBLISHED
from support import randomise

Inspect = Callable[..., dict[str, Any]]


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """cmt_nano as huawei stores it."""
    return foreign.stored_as(PUBLISHED["huawei"], randomise(catalog.create("cmt_nano")).float())


@pytest.fixture
def inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Inspect:
    """inspect(arrays, name="x.pth", code=0): the JSON about a file with these arrays."""

    def run(arrays: foreign.Arrays, name: str = "x.pth", code: int = 0) -> dict[str, Any]:
        torch.save({"model": foreign.tensors(arrays)}, tmp_path / name)
        capsys.readouterr()
        assert main(["inspect", str(tmp_path / name), "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return run


def test_everything_about_a_file_is_said(inspect: Inspect, arrays: dict[str, np.ndarray]) -> None:
    report = inspect(arrays)
    expected = {
        "format": "torch",
        "source": "huawei",
        "architecture": "cmt_nano",
        "num_classes": 1000,
        "in_chans": 3,
        "image_size": [32, 32],
        "options": {},
        "used_set": "raw",
        "parameters": 824_392,
        "problems": [],
        "warnings": [],
    }
    assert {key: report[key] for key in expected} == expected
    assert report["sets"] == {"raw": len(arrays)}
    assert report["tensors"]["file"] == report["tensors"]["used"] == len(arrays)
    assert sum(report["dtypes"].values()) == len(arrays)
    assert len(report["sha256"]) == 64


def test_people_get_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str], arrays: dict[str, np.ndarray]) -> None:
    torch.save({"model": foreign.tensors(arrays), "epoch": 7, "model_ema": None}, tmp_path / "x.pth")
    assert main(["inspect", str(tmp_path / "x.pth")]) == 0
    text = capsys.readouterr().out
    for line in (
        "source        huawei CMT (the authors)",
        "architecture  cmt_nano",
        "resolution    32x32",
        "parameters    824,392",
        "beside        epoch: int 7, model_ema: None",
    ):
        assert line in text.splitlines(), line


def test_values_that_are_no_numbers_are_found(inspect: Inspect, arrays: dict[str, np.ndarray]) -> None:
    arrays["head.weight"][0, :3] = np.nan
    arrays["_bn.running_mean"][0] = np.inf
    arrays["stem_norm1.running_var"][1] = -1
    found = " ".join(inspect(arrays)["warnings"])
    assert "3 values in 1 tensors are NaN or infinite: head.fc.weight." in found
    assert "BatchNorm statistics are NaN or infinite in 1 tensors: head.norm.running_mean." in found
    assert "BatchNorm variances are negative in 1 tensors: stem.0.norm.running_var." in found


def test_large_finite_values_are_no_warning(inspect: Inspect, arrays: dict[str, np.ndarray]) -> None:
    arrays["head.weight"][:] = 3e38
    assert inspect(arrays)["warnings"] == []


def test_position_tables_that_were_never_trained_are_found(inspect: Inspect, arrays: dict[str, np.ndarray]) -> None:
    arrays["relative_pos_b"][:] = 0
    assert inspect(arrays)["warnings"] == ["1 of 3 position tables are zero throughout: they were never trained."]


def test_batchnorm_before_training_is_found(inspect: Inspect, arrays: dict[str, np.ndarray]) -> None:
    for key in arrays:
        if key.endswith("running_var"):
            arrays[key][:] = 1
    assert inspect(arrays)["warnings"] == ["BatchNorm statistics are as they were before training."]


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("cmt_xs.pth", "The file's name says cmt_xs, its tensors say cmt_nano."),
        ("cmt_small_224.pth", "The file's name says cmt_s, its tensors say cmt_nano."),
        ("cmt_nano_224x224.pth", "The file's name says 224 pixels, its position tables are for 32x32."),
        ("my best model.pth", None),
    ],
)
def test_a_name_that_contradicts_the_tensors_is_said(
    name: str, warning: str | None, inspect: Inspect, arrays: dict[str, np.ndarray]
) -> None:
    found = inspect(arrays, name)["warnings"]
    assert warning in found if warning else found == []


def test_a_published_name_with_another_hash_is_said(inspect: Inspect, arrays: dict[str, np.ndarray]) -> None:
    found = inspect(arrays, "cmt_tiny_torch_160_imagenet.h5")["warnings"]
    assert found[0].endswith(
        "that of the published cmt_tiny_torch_160_imagenet.h5 is 7105c2dcbdc08f2074b1ecabfdeaa166."
    )


def test_tensors_that_do_not_fit_are_listed_and_the_exit_code_says_so(
    inspect: Inspect, arrays: dict[str, np.ndarray]
) -> None:
    del arrays["_fc.bias"]
    arrays["blocks_a.0.attn.q.extra"] = np.ones(1, np.float32)
    report = inspect(arrays, code=1)
    assert report["problems"] == ["_fc.bias  not in the file", "blocks_a.0.attn.q.extra  no place in the model"]


def test_the_arithmetic_of_transformers_files_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = randomise(catalog.create("cvt_13_gelu", num_classes=2)).float()
    torch.save(foreign.tensors(foreign.stored_as(PUBLISHED["transformers"], model)), tmp_path / "pytorch_model.bin")
    assert main(["inspect", str(tmp_path / "pytorch_model.bin")]) == 0
    text = capsys.readouterr().out
    assert "architecture  cvt_13_gelu" in text
    assert "--arithmetic authors is right" in text


def test_paddleclas_keeps_raw_weights_in_a_file_beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = foreign.stored_as(PUBLISHED["paddleclas"], randomise(catalog.create("cvt_nano")).float())
    foreign.write_paddle(tmp_path / "best.pdparams", arrays)
    foreign.write_paddle(tmp_path / "best.pdema", arrays)
    assert main(["inspect", str(tmp_path / "best.pdparams")]) == 0
    assert "best.pdema lies beside it" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "best.pdema")]) == 0


def test_our_own_checkpoints_and_timms_folders_are_described(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import timm

    checkpoint.save(catalog.create("cmt_nano", num_classes=3), tmp_path / "ours.safetensors")
    assert main(["inspect", str(tmp_path / "ours.safetensors"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["source"], report["architecture"], report["image_size"]) == ("hybridvit", "cmt_nano", [32, 32])
    assert report["parameters"] == sum(p.numel() for p in catalog.create("cmt_nano", num_classes=3).parameters())

    timm.models.save_for_hf(timm.create_model("cvt_nano", num_classes=3), tmp_path / "folder", safe_serialization=True)
    assert main(["inspect", str(tmp_path / "folder")]) == 0
    assert main(["inspect", str(tmp_path / "folder" / "model.safetensors")]) == 0


def test_an_unknown_file_is_answered_with_the_nearest_sources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(
        {"conv1.weight": torch.ones(1), "fc.bias": torch.ones(1), "norm.bias": torch.ones(1)}, tmp_path / "x.pth"
    )
    assert main(["inspect", str(tmp_path / "x.pth")]) == 2
    message = capsys.readouterr().err
    assert "is of no source that can be told for certain. Nearest:" in message
    assert message.count("knows 1 of 3 names") == 3


@pytest.mark.parametrize("name", ["semantic_fpn_cmt_nano", "upernet.timm/resnet18", "retinanet_cvt_nano"])
def test_detectors_and_segmenters_are_inspected(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hybridvit.save(hybridvit.create_model(name, num_classes=3), path := tmp_path / "best-s.safetensors")
    assert main(["inspect", str(path)]) == 0
    assert name in capsys.readouterr().out
