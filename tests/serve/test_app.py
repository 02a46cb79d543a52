"""serve/app.py: what the endpoint answers, and how it refuses."""

import base64
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import hybridvit
from hybridvit.attribution.explain import explain
from hybridvit.errors import ConfigError
from hybridvit.serve.app import Limits, create_app

Ask = Callable[..., tuple[int, Any]]


def test_predict_says_what_the_model_says(
    address: str, ask: Ask, models: dict[str, nn.Module], picture_file: Path
) -> None:
    status, answer = ask(f"{address}/api/predict?model=cmt&top=2", picture_file.read_bytes())
    found = explain(models["cmt"], picture_file)
    assert status == 200
    assert (answer["model"], answer["width"], answer["height"]) == ("cmt", 200, 150)
    assert [guess["label"] for guess in answer["top"]] == [name for name, _ in found.top(2)]
    np.testing.assert_allclose(
        [guess["probability"] for guess in answer["top"]], [share for _, share in found.top(2)], rtol=1e-4
    )


@pytest.mark.parametrize("method", ["attention", "rollout", "gradcam", "gradients", "occlusion"])
@pytest.mark.parametrize("model", ["cvt", "cmt"])
def test_every_method_gives_a_layer_for_the_whole_picture(
    address: str, ask: Ask, picture_file: Path, model: str, method: str
) -> None:
    status, answer = ask(f"{address}/api/explain?model={model}&method={method}", picture_file.read_bytes())
    assert status == 200
    layer = Image.open(io.BytesIO(base64.b64decode(answer["layer"].removeprefix("data:image/png;base64,"))))
    assert (layer.mode, layer.size) == ("RGBA", (200, 150))
    assert answer["seen"] == [33, 8, 165, 140]  # 64 of 73 pixels of the short side
    assert answer["low"] < answer["high"]


def test_another_point_gives_another_map(address: str, ask: Ask, picture_file: Path) -> None:
    layers = [
        ask(f"{address}/api/explain?stage=0&x={x}&y=75", picture_file.read_bytes())[1]["layer"] for x in (60, 140)
    ]
    assert layers[0] != layers[1]


def test_the_models_are_listed_with_their_grids(address: str, ask: Ask) -> None:
    status, (cvt, cmt) = ask(f"{address}/api/models")
    assert status == 200
    assert cvt["classes"] == ["ant", "bee", "<b>cat</b>"]
    assert [stage["class_token"] for stage in cvt["stages"]] == [False, False, True]
    assert [stage["key_grid"] for stage in cmt["stages"]] == [[8, 8], [8, 8], [4, 4]]
    assert [stage["heads"] for stage in cmt["stages"]] == [1, 2, 4]


def test_the_description_names_every_endpoint_and_its_errors(address: str, ask: Ask) -> None:
    status, description = ask(f"{address}/openapi.json")
    assert status == 200
    assert set(description["paths"]) == {"/health", "/api/models", "/api/predict", "/api/explain"}
    explain = description["paths"]["/api/explain"]["post"]
    assert "image/*" in explain["requestBody"]["content"]
    assert {"200", "400", "413", "422", "503"} <= set(explain["responses"])
    assert {"model", "method", "x", "y", "stage", "block", "head", "label", "top"} == {
        each["name"] for each in explain["parameters"]
    }


def huge_png() -> bytes:
    """A header of 9,000 x 9,000 pixels with nothing behind it."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 9_000, 9_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


def encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def a_line() -> bytes:
    return encoded(Image.new("L", (101, 1)))


def twelve_bits() -> bytes:
    return encoded(Image.fromarray(np.linspace(0, 3000, 64, dtype=np.uint16).reshape(8, 8)))


def test_an_upload_of_numbers_from_0_to_1_is_as_bright_as_one_of_8_bits(address: str, ask: Ask) -> None:
    values = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    values[0, 0] = 255
    buffer = io.BytesIO()
    Image.fromarray(values.astype(np.float32) / 255).save(buffer, "TIFF")
    plain = ask(f"{address}/api/predict", encoded(Image.fromarray(values)))
    assert plain[0] == 200
    assert ask(f"{address}/api/predict", buffer.getvalue())[1]["top"] == plain[1]["top"]


@pytest.mark.parametrize(
    ("words", "body", "status", "kind", "reason"),
    [
        ("predict", b"no picture", 422, "DataError", "The upload cannot be read as a picture"),
        (
            "predict",
            b"",
            422,
            "DataError",
            "cannot be read as a picture: the body is empty; send the picture's own bytes",
        ),
        ("predict", huge_png(), 422, "DataError", "9000 x 9000 pixels, the limit is 1000000"),
        (
            "predict",
            a_line(),
            422,
            "DataError",
            "The upload has 101 x 1 pixels: one side is more than 100 times the other.",
        ),
        ("explain", a_line(), 422, "DataError", "one side is more than 100 times the other"),
        ("predict", twelve_bits(), 422, "DataError", "The upload holds values from 0 to 3000, and does not say which"),
        ("explain", twelve_bits(), 422, "DataError", "does not say which of them is white"),
        ("predict", bytes(300_001), 413, "TooLargeError", "300001 bytes, the limit is 300000. Send a smaller file."),
        ("predict?model=dog", None, 422, "ConfigError", "There is no model 'dog'. Choose one of cvt."),
        ("predict?top=0", None, 422, "QueryError", "top: Input should be greater than or equal to 1, found '0'"),
        ("explain?method=magic", None, 422, "QueryError", "'attention', 'rollout'"),
        ("explain?x=5", None, 422, "ConfigError", "give both x and y, or neither"),
        ("explain?x=5&y=5", None, 422, "ConfigError", "The point (5, 5) is not in what the model sees"),
        ("explain?stage=-1", None, 422, "ConfigError", "There is no stage -1: the model has 3"),
        ("explain?block=-1", None, 422, "ConfigError", "There is no block of stage 2 -1: the model has"),
        ("explain?head=-1", None, 422, "ConfigError", "There is no head -1: the model has"),
        ("explain?stage=9", None, 422, "ConfigError", "There is no stage 9: the model has 3"),
        ("explain?method=rollout&stage=1", None, 422, "ConfigError", "rollout knows no stage; it takes query."),
        ("nothing", None, 404, "HTTPError", "Not Found"),
    ],
)
def test_errors_are_json_with_a_reason(
    small_server: str, ask: Ask, picture_file: Path, words: str, body: bytes | None, status: int, kind: str, reason: str
) -> None:
    found, answer = ask(f"{small_server}/api/{words}", picture_file.read_bytes() if body is None else body)
    assert (found, answer["error"]) == (status, kind)
    assert reason in answer["reason"]


@pytest.fixture(scope="module")
def small_server(serving: Any, models: dict[str, nn.Module]) -> Any:
    with serving({"cvt": models["cvt"]}, Limits(max_bytes=300_000, max_pixels=1_000_000)) as address:
        yield address


def test_a_foreign_host_name_is_refused(address: str, ask: Ask) -> None:
    status, answer = ask(f"{address}/api/models", Host="evil.example:80")
    assert (status, answer["reason"]) == (400, "This server does not answer to the name 'evil.example'.")
    assert ask(f"{address}/api/models", Host="localhost:1234")[0] == 200


def test_a_mistake_of_the_server_is_json_too_and_the_next_request_works(
    serving: Any, ask: Ask, picture_file: Path, monkeypatch: pytest.MonkeyPatch, models: dict[str, nn.Module]
) -> None:
    monkeypatch.setattr("hybridvit.serve.batching.forward", lambda *_: 1 / 0)
    with serving({"cvt": models["cvt"]}) as address:
        status, answer = ask(f"{address}/api/predict", picture_file.read_bytes())
        assert (status, answer["error"]) == (500, "ZeroDivisionError")
        monkeypatch.undo()
        assert ask(f"{address}/api/predict", picture_file.read_bytes())[0] == 200


def test_uploads_are_turned_upright_and_greyed_as_in_training(address: str, ask: Ask) -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.new("RGB", (80, 40), "red").save(buffer, "JPEG", exif=exif)
    _, answer = ask(f"{address}/api/predict", buffer.getvalue())
    assert (answer["width"], answer["height"]) == (40, 80)


def test_the_model_is_in_eval_mode_and_needs_no_gradient(models: dict[str, nn.Module], address: str) -> None:
    assert not any(model.training for model in models.values())
    assert all(parameter.grad is None for model in models.values() for parameter in model.parameters())
    assert torch.is_grad_enabled()


def test_what_is_no_classifier_is_refused_before_anything_is_served() -> None:
    segmenter = hybridvit.create_model("semantic_fpn_cmt_nano", num_classes=3)
    with pytest.raises(ConfigError, match="mine is made for segmentation; the page shows classifiers"):
        create_app({"mine": segmenter})
