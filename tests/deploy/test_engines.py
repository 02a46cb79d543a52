import shutil
from collections.abc import Callable

import pytest
import torch

from hybridvit.deploy import engines
from hybridvit.deploy.fuse import fuse
from hybridvit.deploy.graph import rewrite
from hybridvit.errors import ConfigError
from hybridvit.models.backbone import Backbone

MakeModel = Callable[..., Backbone]


@pytest.mark.parametrize("name", ["eager", "fused", "onnx", "openvino"])
@torch.inference_mode()
def test_an_engine_gives_the_models_answers(name: str, make_model: MakeModel) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}.get(name, "torch"))
    model = make_model("cmt_nano")
    engine = engines.build(name, model, image_size=(32, 32), batch_size=3)
    for batch in (3, 1, 2, 3):  # more shapes than are kept
        images = torch.randn(batch, 3, 32, 32)
        torch.testing.assert_close(engine(images), model(images), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_openvino_gives_rows_in_order_from_several_streams(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    model = make_model("cvt_nano", dims=(8,), depths=(1,), heads=(1,))
    engine = engines.build("openvino", model, image_size=(32, 32), batch_size=7)
    for batch in (7, 1, 2, 7):  # more numbers of streams than are kept
        images = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(engine(images), model(images), rtol=1e-4, atol=1e-5)
    assert [streams for streams, _ in engine.queues] == [2, 3]


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor compiles with g++")
@torch.inference_mode()
def test_the_compiled_engine_gives_the_models_answers_from_packed_weights(make_model: MakeModel) -> None:
    from torch._inductor.utils import run_and_get_code

    model = make_model("cvt_nano", dims=(8,), depths=(1,), heads=(1,))
    engine = engines.build("compiled", model, image_size=(32, 32), batch_size=3)
    images = torch.randn(3, 3, 32, 32)
    found, code = run_and_get_code(engine, images)
    torch.testing.assert_close(found, model(images), rtol=1e-4, atol=1e-5)
    assert "mkldnn._convolution_pointwise" in code[0]
    torch.testing.assert_close(engine(images[:2]), model(images[:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("matrix_products", [True, False])
@pytest.mark.parametrize("name", ["cvt_nano", "cvt_13_gelu", "cmt_nano", "cmt_ti_flyegle", "cmt_ti_kecam"])
@torch.inference_mode()
def test_the_graph_of_other_runtimes_is_the_same_arithmetic(
    name: str, matrix_products: bool, make_model: MakeModel
) -> None:
    model = make_model(name, img_size=64, depths=(1, 1, 1) if name.startswith("cv") else (1, 1, 1, 1)).double()
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    other = rewrite(fuse(model), matrix_products=matrix_products)
    torch.testing.assert_close(other(images), model(images), rtol=1e-9, atol=1e-9)


def test_tuning_takes_the_fastest_way(make_model: MakeModel) -> None:
    fused = fuse(make_model("cvt_nano"))
    seconds = engines.tune(fused, image_size=(32, 32), batch_size=3, repeats=1)
    assert fused.chunk == min(seconds, key=lambda way: seconds[way])
    assert {way.pictures for way in seconds} == {1, 2, 3}


def test_an_unknown_engine_is_refused_with_the_known_ones(make_model: MakeModel) -> None:
    with pytest.raises(ConfigError, match=r"'warp'.*eager, fused, compiled"):
        engines.build("warp", make_model("cvt_nano"), image_size=(32, 32), batch_size=1)
