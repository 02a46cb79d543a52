import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

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


@pytest.mark.parametrize(
    ("to", "precision"), [("onnx", "fp32"), ("openvino", "fp16"), ("pt2", "fp32"), ("pt2", "bf16")]
)
def test_a_cvt_answers_as_the_plain_model(to: str, precision: str, make_model: MakeModel, tmp_path: Path) -> None:
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
