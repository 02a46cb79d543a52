from collections.abc import Callable

import pytest
import torch

from hybridvit.deploy import engines
from hybridvit.deploy.fuse import fuse
from hybridvit.errors import ConfigError
from hybridvit.models.backbone import Backbone

MakeModel = Callable[..., Backbone]


@pytest.mark.parametrize("name", ["eager", "fused"])
@torch.inference_mode()
def test_an_engine_gives_the_models_answers(name: str, make_model: MakeModel) -> None:
    model = make_model("cmt_nano")
    images = torch.randn(3, 3, 32, 32)
    engine = engines.build(name, model, image_size=(32, 32), batch_size=3)
    torch.testing.assert_close(engine(images), model(images), rtol=1e-4, atol=1e-5)


def test_tuning_takes_the_fastest_way(make_model: MakeModel) -> None:
    fused = fuse(make_model("cvt_nano"))
    seconds = engines.tune(fused, image_size=(32, 32), batch_size=3, repeats=1)
    assert fused.chunk == min(seconds, key=lambda way: seconds[way])
    assert {way.pictures for way in seconds} == {1, 2, 3}


def test_an_unknown_engine_is_refused_with_the_known_ones(make_model: MakeModel) -> None:
    with pytest.raises(ConfigError, match=r"'warp'.*eager, fused, compiled"):
        engines.build("warp", make_model("cvt_nano"), image_size=(32, 32), batch_size=1)
