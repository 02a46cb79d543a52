"""inference/: pictures of every kind in, one row each out, the same as the model itself says."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import hybridvit
from hybridvit.config import Preprocess
from hybridvit.data.decode import decode
from hybridvit.data.transforms import eval_transform
from hybridvit.errors import CheckpointError, ConfigError, DataError
from hybridvit.inference.predict import predict
from hybridvit.inference.predictor import Predictor
from hybridvit.models import catalog
from hybridvit.output import to_json

MakePictures = Callable[..., Path]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    network: Any = catalog.create("cvt_nano", num_classes=3).eval()
    with torch.no_grad():
        network.head.weight.normal_()
    network.label_names, network.preprocess = ["a", "b", "c"], Preprocess(image_size=(32, 32))
    return network


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (41, 50, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_path_bytes_a_picture_an_array_and_a_tensor_are_one_picture(
    model: nn.Module, pixels: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "it.png").write_bytes(png(pixels))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    kinds = [tmp_path / "it.png", png(pixels), Image.fromarray(pixels), pixels, tensor]
    rows = predict(model, kinds, top_k=2)
    x = eval_transform(model.preprocess)(decode(png(pixels), name="it"))[None]
    expected = model(x).softmax(dim=1)[0].topk(2)
    for row in rows:
        said = row.said["predictions"]
        assert [one["class"] for one in said] == [model.label_names[k] for k in expected.indices]
        assert [one["probability"] for one in said] == pytest.approx(expected.values.tolist(), rel=1e-5)
    assert [row.path for row in rows] == [str(tmp_path / "it.png"), *(f"picture {k}" for k in range(1, 5))]
    assert [len(predict(model, one)) for one in kinds] == [1] * 5
    assert len(predict(model, np.stack([pixels, pixels]))) == 2


def test_a_folder_and_an_exported_file_answer_as_the_checkpoint(
    model: nn.Module, make_pictures: MakePictures, tmp_path: Path
) -> None:
    from hybridvit.deploy.export import export

    folder = make_pictures(test=2) / "test"
    export(model, tmp_path / "it.onnx", to="onnx")
    one, other = predict(model, folder), predict(tmp_path / "it.onnx", [folder], batch_size=4)
    assert [row.path for row in one] == [row.path for row in other]
    assert len(one) == 6
    for a, b in zip(one, other, strict=True):
        shares = [{p["class"]: p["probability"] for p in row.said["predictions"]} for row in (a, b)]
        assert shares[1] == pytest.approx(shares[0], rel=1e-4)


def test_a_picture_that_cannot_be_read_costs_its_own_row_only(model: nn.Module, pixels: np.ndarray) -> None:
    batch = [b"no picture", png(pixels), b"", pixels.astype(np.float32)]
    rows = Predictor(model)(batch, ["one", "two", "three", "four"])
    assert [row.ok for row in rows] == [False, True, False, False]
    assert "one cannot be read as a picture" in str(rows[0].error)
    assert "four is of float32 and shape (41, 50, 3). Expected uint8" in str(rows[3].error)
    assert [row.to_dict()["path"] for row in rows] == ["one", "two", "three", "four"]
    assert [row.ok for row in predict(model, batch[:3])] == [False, True, False]
    json.loads(to_json([row.to_dict() for row in rows]))


def test_logits_and_features_come_as_asked(model: nn.Module, pixels: np.ndarray, tmp_path: Path) -> None:
    x = eval_transform(model.preprocess)(Image.fromarray(pixels))[None]
    with torch.no_grad():
        logits, features = model(x)[0], model.forward_head(model.forward_features(x), pre_logits=True)[0]
    np.testing.assert_allclose(predict(model, pixels, give="logits")[0].said["logits"], logits, rtol=1e-5, atol=1e-6)
    found = Predictor(model, give="features")([pixels])[0].to_dict()["features"]
    np.testing.assert_allclose(found, features, rtol=1e-5, atol=1e-6)
    from hybridvit.deploy.export import export

    export(model, tmp_path / "it.onnx", to="onnx")
    with pytest.raises(ConfigError, match="gives no features; take the checkpoint"):
        Predictor(tmp_path / "it.onnx", give="features")


def test_an_answer_that_is_no_number_is_an_error_and_never_json(model: nn.Module, pixels: np.ndarray) -> None:
    broken: Any = catalog.create("cvt_nano", num_classes=3)
    broken.preprocess = model.preprocess
    with torch.no_grad():
        broken.head.bias.fill_(float("nan"))
    (row,) = predict(broken, pixels)
    assert not row.ok
    assert "the model's answer is not finite" in str(row.error)
    assert broken.training  # as it was


def test_what_is_no_picture_at_all_is_refused(model: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a dict; expected a path, bytes, a PIL picture"):
        predict(model, [{}])
    with pytest.raises(DataError, match="does not exist"):
        predict(model, tmp_path / "none.png")
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        predict(tmp_path / "none.safetensors", tmp_path)


def test_rows_print_show_themselves_and_become_a_frame(model: nn.Module, pixels: np.ndarray) -> None:
    rows = hybridvit.predict(model, [pixels, b"<b>", pixels], top_k=1)
    assert str(rows).count("\n") == 2
    assert "picture 0" in rows._repr_html_()
    frame = pytest.importorskip("pandas") and rows.to_frame()
    assert list(frame["ok"]) == [True, False, True]
    assert len(rows.broken) == 1
    assert len(rows[1:]) == 2
    assert [line["rank"] for line in rows.ranked()] == [1, 1]
