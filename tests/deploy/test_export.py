import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from hybridvit.deploy import engines, export, verify
from hybridvit.errors import CheckpointError, ConfigError
from hybridvit.models.backbone import Backbone

MakeModel = Callable[..., Backbone]
SMALL_CMT = {
    "dims": (8, 16),
    "depths": (1, 1),
    "heads": (1, 2),
    "reductions": (2, 1),
    "stem_width": 8,
    "head_width": 16,
}
SMALL_CVT = {"dims": (8, 16), "depths": (1, 1), "heads": (1, 2)}
FLAVOURS = {
    "cvt_nano": SMALL_CVT,
    "cvt_13_gelu": SMALL_CVT,
    "cmt_nano": SMALL_CMT,
    "cmt_ti_flyegle": SMALL_CMT,
    "cmt_ti_kecam": SMALL_CMT,
}
NAMES = ["a", "b", "c", "d", "e"]


def pictures(*shapes: tuple[int, int, int]) -> list[torch.Tensor]:
    return [torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(batch)) for batch, *size in shapes]


def write_and_compare(
    model: Backbone, path: Path, shapes: list[tuple[int, int, int]], *, to: str, **kwargs: object
) -> engines.Engine:
    model.label_names = NAMES
    metadata = export.export(model, path, to=to, **kwargs)
    engine = engines.open_export(path)
    report = verify.verify(model, engine, pictures(*shapes), precision=str(kwargs.get("precision", "fp32")))
    assert report.passed, report
    assert engine.metadata == json.loads(json.dumps(metadata))
    assert engine.metadata["label_names"] == NAMES
    assert engine.metadata["pretrained_cfg"]["mean"]
    assert sorted(path.parent.iterdir()) == sorted({path, path.with_suffix(".bin")} & set(path.parent.iterdir()))
    return engine


def test_a_cmt_of_any_size_answers_as_the_plain_model(make_model: MakeModel, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    model = make_model("cmt_nano", img_size=64, **SMALL_CMT)
    shapes = [(1, 64, 64), (3, 65, 99), (2, 96, 64)]
    path = tmp_path / "onnx" / "model.onnx"
    engine = write_and_compare(model, path, shapes, to="onnx", image_size=(64, 64), any_size=True)
    export.onnx_to_openvino(path, tmp_path / "model.xml", engine.metadata)
    other = engines.open_export(tmp_path / "model.xml")
    assert other.metadata == engine.metadata
    assert verify.verify(model, other, pictures(*shapes), precision="fp32").passed


@pytest.mark.parametrize("name", FLAVOURS)
@pytest.mark.parametrize("to", ["onnx", "openvino", "pt2"])
def test_every_flavour_answers_as_the_plain_model(to: str, name: str, make_model: MakeModel, tmp_path: Path) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "pt2": "torch"}.get(to, to))
    model = make_model(name, img_size=64, **FLAVOURS[name])
    path = tmp_path / f"model{export.SUFFIXES[to]}"
    write_and_compare(model, path, [(1, 64, 96), (3, 64, 96)], to=to, image_size=(64, 96))


@pytest.mark.parametrize("name", ["cvt_nano", "cmt_ti_flyegle", "cmt_ti_kecam"])
def test_openvino_takes_any_size(name: str, make_model: MakeModel, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    model = make_model(name, img_size=64, **FLAVOURS[name])
    shapes = [(1, 64, 64), (3, 65, 99), (2, 96, 64)]
    write_and_compare(model, tmp_path / "model.xml", shapes, to="openvino", image_size=(64, 64), any_size=True)


@pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor compiles with g++")
def test_a_compiled_file_answers_in_a_fresh_process_without_this_package(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model("cvt_nano", dims=(8,), depths=(1,), heads=(1,))
    model.label_names = NAMES
    path = tmp_path / "best.aoti.pt2"
    export.export(model, path, to="aoti")
    images = torch.randn(3, 3, 32, 32)
    torch.save(images, tmp_path / "images.pt")
    program = example("aoti_load_package") + (
        "import sys\ntorch.save(model(torch.load('images.pt')), 'logits.pt')\nassert 'hybridvit' not in sys.modules\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] in NAMES
    with torch.inference_mode():
        torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), model(images), rtol=1e-4, atol=1e-5)
    assert verify.verify(model, engines.open_export(path), [images[:1]], precision="fp32").passed


def example(word: str) -> str:
    """The block of the page on export that holds `word`."""
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    return next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if word in block)


@pytest.mark.parametrize(
    ("to", "word"),
    [
        ("onnx", "InferenceSession"),
        ("openvino", 'compile_model(model, "CPU")('),
        ("openvino", "AsyncInferQueue"),
        ("pt2", "torch.export.load"),
    ],
)
def test_the_example_of_the_page_runs(
    to: str,
    word: str,
    make_model: MakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "pt2": "torch"}.get(to, to))
    model = make_model("cvt_nano", **SMALL_CVT)
    model.label_names = NAMES
    export.export(model, tmp_path / f"best{export.SUFFIXES[to]}", to=to)
    monkeypatch.chdir(tmp_path)
    exec(example(word), {})
    assert capsys.readouterr().out.strip() in NAMES


def test_another_librarys_model_is_written_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    path = tmp_path / "model.onnx"
    with pytest.raises(ConfigError, match="give image_size"):
        export.export(model, path, to="onnx")
    export.export(model, path, to="onnx", image_size=(32, 40))
    shapes = pictures((1, 32, 40), (3, 32, 40))
    assert verify.verify(model, engines.open_export(path), shapes, precision="fp32").passed


@pytest.mark.parametrize(("to", "precision"), [("openvino", "fp16"), ("pt2", "bf16")])
def test_a_cvt_of_less_precision_answers_nearly_as_the_plain_model(
    to: str, precision: str, make_model: MakeModel, tmp_path: Path
) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "pt2": "torch"}.get(to, to))
    path = tmp_path / f"model{export.SUFFIXES[to]}"
    write_and_compare(make_model("cvt_nano", **SMALL_CVT), path, [(1, 32, 32), (4, 32, 32)], to=to, precision=precision)


def test_an_onnx_file_names_modules_and_no_paths_of_this_machine(make_model: MakeModel, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "model.onnx"
    export.export(make_model("cvt_nano", **SMALL_CVT), path, to="onnx")
    assert str(Path(__file__).parents[2]).encode() not in path.read_bytes()
    model = onnx.load(path)
    assert [entry.name for entry in model.graph.input] == ["images"]
    assert [entry.name for entry in model.graph.output] == ["logits"]
    assert any(node.name.startswith("stages.1.blocks.0.attn.q/Conv") for node in model.graph.node)


def test_a_format_refuses_a_precision_that_it_does_not_offer(make_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pt2 is written in fp32 or bf16, not int8"):
        export.export(make_model("cvt_nano"), tmp_path / "m.pt2", to="pt2", precision="int8")


def test_files_for_any_size_begin_at_64_pixels(make_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="begin at 64"):
        export.export(make_model("cvt_nano"), tmp_path / "m.pt2", to="pt2", any_size=True)


def test_a_foreign_file_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        engines.open_export(tmp_path / "model.onnx")
    (tmp_path / "model.pth").touch()
    with pytest.raises(CheckpointError, match="no exported model"):
        engines.open_export(tmp_path / "model.pth")


def test_a_different_answer_does_not_pass() -> None:
    expected = torch.tensor([[1.0, 2.0], [4.0, 3.0]])
    assert verify.compare(expected, expected + 1e-5, precision="fp32").passed
    assert not verify.compare(expected, expected + 1e-2, precision="fp32").passed
    assert verify.compare(expected, expected + 1e-2, precision="fp16").passed
    assert not verify.compare(expected, expected * float("nan"), precision="fp32").passed
    worse = verify.compare(expected, expected.flip(1), precision="int8")
    assert (worse.passed, worse.agreement) == (False, 0.0)
