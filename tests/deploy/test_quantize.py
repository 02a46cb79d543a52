from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hybridvit.config import Preprocess
from hybridvit.deploy import engines, export, exported, quantize
from hybridvit.deploy.quantize import quantise
from hybridvit.models.backbone import Backbone

MakeModel = Callable[..., Backbone]


def test_int8_is_calibrated_and_leaves_the_worst_parts_in_float(make_model: MakeModel, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = make_model("cvt_nano", dims=(8, 16), depths=(1, 1), heads=(1, 2))
    batches = list(torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)).split(4))
    path = tmp_path / "model.onnx"
    # An agreement that cannot be reached: every step towards float is taken.
    metadata, quantised = quantise(model, path, batches[:1], held_out=batches[1:], agreement=1.1, most_in_float=2)
    assert metadata["precision"] == "int8"
    assert quantised.damage.keys() >= {"stages.0.embed", "stages.1.blocks.0.attn", "stages.1.blocks.0.mlp", "head"}
    worst = sorted(quantised.damage, key=lambda part: -quantised.damage[part])[:2]
    assert {name.startswith(tuple(worst)) for name in quantised.in_float} == {True}
    assert quantised.kept.relative_difference <= quantised.all_int8.relative_difference * 1.5
    with torch.inference_mode():
        found = engines.open_export(path)(batches[0])
        assert (found - model(batches[0])).abs().max() < 0.5 * model(batches[0]).abs().max()


def small_cmt(make_model: MakeModel) -> Backbone:
    return make_model("cmt_nano", img_size=64)


def test_local_perception_stays_in_float(make_model: MakeModel, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    import onnx

    path = tmp_path / "model.onnx"
    batches = [torch.randn(4, 3, 64, 64)]
    quantise(small_cmt(make_model), path, batches, held_out=batches, image_size=(64, 64), agreement=0.0)
    graph = onnx.load(path).graph
    in_float = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    is_float = {node.name: node.input[1] in in_float for node in graph.node if node.op_type == "Conv"}
    assert {name.split("/")[0] for name, value in is_float.items() if value} == {
        "stages.0.blocks.0.lpu",
        "stages.1.blocks.0.lpu",
        "stages.2.blocks.0.lpu",
        "stages.2.blocks.1.lpu",
    }


def test_tokens_are_quantised_ahead_of_their_permutation_with_the_same_answers(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    import onnx

    sources: list[bytes] = []
    write = export.onnx_to_openvino

    def keep(source: Path, *rest: Any) -> None:
        sources.append(source.read_bytes())
        write(source, *rest)

    monkeypatch.setattr(export, "onnx_to_openvino", keep)
    model = small_cmt(make_model)
    batches = list(torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)).split(4))
    for name, to in (("model.onnx", "onnx"), ("model.xml", "openvino")):
        quantise(model, tmp_path / name, batches, held_out=batches, to=to, image_size=(64, 64), agreement=0.0)

    def feeds_quantisation(model: bytes) -> set[str]:
        graph = onnx.load_from_string(model).graph
        makers = {name: node.op_type for node in graph.node for name in node.output}
        return {makers.get(node.input[0], "") for node in graph.node if node.op_type == "QuantizeLinear"}

    as_maps = (tmp_path / "model.onnx").read_bytes()
    assert "Transpose" in feeds_quantisation(as_maps)
    assert "Transpose" not in feeds_quantisation(sources[0])
    expected = engines.OnnxEngine(as_maps)(batches[0])
    assert torch.equal(engines.OnnxEngine(sources[0])(batches[0]), expected)
    found = engines.open_export(tmp_path / "model.xml")(batches[0])
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()


def test_int8_is_evaluated_on_other_pictures_than_it_was_calibrated_on(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    model = make_model("cvt_nano", dims=(8, 16), depths=(1, 1), heads=(1, 2))
    model.preprocess = Preprocess(image_size=(32, 32))
    images = torch.randn(7, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(7) % 5
    monkeypatch.setattr(exported, "load", lambda _: model)
    monkeypatch.setattr(exported, "_read", lambda *_: (list(images.split(3)), labels, None))
    calibrated: list[torch.Tensor] = []

    def keep(_: Any, __: Any, batches: list[torch.Tensor], **rest: Any) -> tuple[dict[str, Any], quantize.Quantised]:
        calibrated.extend(batches)
        return quantise(model, tmp_path / "model.onnx", batches, **rest)

    monkeypatch.setattr(exported, "quantise", keep)
    found = exported.export_file("model.safetensors", tmp_path / "model.onnx", precision="int8", pictures=["pictures"])
    held_out = [1, 4]
    assert {float(image.sum()) for batch in calibrated for image in batch}.isdisjoint(
        float(images[k].sum()) for k in held_out
    )
    assert found.report.pictures == found.quantised.kept.pictures == len(held_out)
    with torch.inference_mode():
        right = (model(images[held_out]).argmax(1) == labels[held_out]).float().mean().item()
    assert found.report.plain_accuracy == found.quantised.kept.plain_accuracy == pytest.approx(right)
