"""What both families promise about any picture and any head, in float64 with randomised weights."""

import pytest
import torch

from hybridvit.errors import ConfigError
from hybridvit.models import catalog
from hybridvit.models.attention import explicit_attention
from support import pictures, randomise, relative_error

# Each arithmetic once, small enough for float64 on one core.
TINY = {"dims": (8, 16, 24, 32), "depths": (1, 2, 2, 1), "stem_width": 4, "heads": (1, 2, 2, 4), "head_width": 20}
MODELS = {
    "cvt": ("cvt_13", {"dims": (8, 16, 24), "depths": (1, 2, 2), "heads": (1, 2, 3)}),
    "cvt_gelu": ("cvt_13_gelu", {"dims": (8, 16, 24), "depths": (1, 2, 2), "heads": (1, 2, 3)}),
    "cmt": ("cmt_ti", TINY),
    "cmt_flyegle_rpe": ("cmt_ti_flyegle", TINY),
    "cmt_flyegle_pe_nd": ("cmt_ti_flyegle", {**TINY, "position": "dense"}),
    "cmt_flyegle_ape": ("cmt_ti_flyegle", {**TINY, "position": None, "absolute_position": True, "qkv_bias": False}),
    "cmt_kecam": ("cmt_ti_kecam", TINY),
    "cmt_kecam_port": ("cmt_ti_kecam_port", TINY),
    "cmt_mindcv": ("cmt_ti_mindcv", TINY),
    "cvt_nano": ("cvt_nano", {}),
    "cmt_nano": ("cmt_nano", {}),
}
OFF = {"drop_rate": 0.0, "attn_drop_rate": 0.0}


def build(case: str, **kwargs):
    name, config = MODELS[case]
    if "cmt" in case:
        kwargs = {"img_size": 64, "proj_drop_rate": 0.0, **kwargs}
    return randomise(catalog.create(name, **OFF, **config, **{"num_classes": 7, **kwargs}))


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("size", [(64, 64), (33, 47), (70, 41), (96, 32)])
def test_any_picture_gives_finite_logits(case: str, size: tuple[int, int]) -> None:
    model = build(case).eval()
    with torch.no_grad():
        logits = model(pictures(1, *size))
    assert logits.shape == (1, 7)
    assert logits.isfinite().all()


@pytest.mark.parametrize("case", MODELS)
def test_a_picture_gets_the_same_logits_alone_as_in_a_batch(case: str) -> None:
    model, x = build(case).eval(), pictures(3, 48, 64)
    with torch.no_grad():
        assert relative_error(model(x[1:2]), model(x)[1:2]) < 1e-12


@pytest.mark.parametrize("case", MODELS)
def test_memory_layout_does_not_change_the_answer(case: str) -> None:
    model, x = build(case).eval(), pictures(2, 48, 64)
    with torch.no_grad():
        assert relative_error(model(x.contiguous(memory_format=torch.channels_last)), model(x)) < 1e-12


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("size", [(64, 64), (40, 72)])
def test_fused_and_explicit_attention_agree_forward_and_backward(case: str, size: tuple[int, int]) -> None:
    def run() -> tuple[torch.Tensor, list[torch.Tensor]]:
        logits = model(x)
        return logits, torch.autograd.grad((logits * torch.arange(7)).sum(), list(model.parameters()))

    model, x = build(case).train(), pictures(2, *size)
    fused, fused_gradients = run()
    with explicit_attention():
        explicit, explicit_gradients = run()
    assert relative_error(fused, explicit) < 1e-12
    largest = max(float(g.norm()) for g in explicit_gradients)
    for a, b in zip(fused_gradients, explicit_gradients, strict=True):
        assert float((a - b).norm()) < 1e-11 * max(float(b.norm()), 1e-3 * largest)


@pytest.mark.parametrize("case", ["cvt", "cmt"])
def test_any_number_of_input_channels(case: str) -> None:
    for channels in (1, 4):
        assert build(case, in_chans=channels)(pictures(2, 64, 64, channels)).shape == (2, 7)


@pytest.mark.parametrize(("case", "features"), [("cvt", 24), ("cmt", 20), ("cmt_flyegle_rpe", 20), ("cmt_kecam", 20)])
def test_no_classes_means_features(case: str, features: int) -> None:
    model = build(case, num_classes=0).eval()
    x = pictures(2, 64, 64)
    assert model(x).shape == (2, features)
    assert torch.equal(model(x), model.forward_head(model.forward_features(x), pre_logits=True))


@pytest.mark.parametrize("case", ["cvt", "cmt"])
def test_a_new_classifier_replaces_the_old_one(case: str) -> None:
    model = build(case)
    model.reset_classifier(3)
    assert model(pictures(2, 64, 64)).shape == (2, 3)
    assert model.get_classifier().out_features == model.num_classes == 3
    assert 0.01 < model.get_classifier().weight.std() < 0.03
    model.reset_classifier(0)
    assert isinstance(model.get_classifier(), torch.nn.Identity)


def test_cvt_pools_the_class_token_the_other_tokens_or_nothing() -> None:
    token, mean, none = (build("cvt", global_pool=pool, num_classes=0).eval() for pool in ("token", "avg", ""))
    x = pictures(2, 64, 48)
    tokens = none(x)
    assert tokens.shape == (2, 1 + 4 * 3, 24)
    assert torch.allclose(token(x), tokens[:, 0])
    assert torch.allclose(mean(x), tokens[:, 1:].mean(dim=1))


def test_too_small_a_picture_is_refused_with_the_smallest_that_works() -> None:
    with pytest.raises(ConfigError, match="20 x 64 pixels is too small for this CMT: it needs at least 32 x 32"):
        build("cmt")(pictures(1, 20, 64))
    assert build("cmt").eval()(pictures(1, 32, 32)).shape == (1, 7)
    with pytest.raises(ConfigError, match="at least 3 x 3"):
        build("cvt")(pictures(1, 2, 64))
    assert build("cvt").eval()(pictures(1, 3, 3)).shape == (1, 7)
