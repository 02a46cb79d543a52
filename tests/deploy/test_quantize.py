from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hybridvit.deploy import engines
from hybridvit.deploy.quantize import quantise
from hybridvit.models.backbone import Backbone

MakeModel = Callable[..., Backbone]


def test_int8_is_calibrated_and_leaves_the_worst_parts_in_float(make_model: MakeModel, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = make_model("cvt_nano", dims=(8, 16), depths=(1, 1), heads=(1, 2))
    batches = list(torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)).split(4))
    path = tmp_path / "model.onnx"
    # An agreement that cannot be reached: every step towards float is taken.
    metadata, quantised = quantise(model, path, batches, agreement=1.1, most_in_float=2)
    assert metadata["precision"] == "int8"
    assert quantised.damage.keys() >= {"stages.0.embed", "stages.1.blocks.0.attn", "stages.1.blocks.0.mlp", "head"}
    worst = sorted(quantised.damage, key=lambda part: -quantised.damage[part])[:2]
    assert {name.startswith(tuple(worst)) for name in quantised.in_float} == {True}
    assert quantised.kept.relative_difference <= quantised.all_int8.relative_difference * 1.5
    with torch.inference_mode():
        found = engines.open_export(path)(batches[0])
        assert (found - model(batches[0])).abs().max() < 0.5 * model(batches[0]).abs().max()
