"""The list of models is itself tested: names, exact parameters, published figures."""

import logging
import warnings

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import hybridvit
from hybridvit.errors import ConfigError
from hybridvit.models import catalog
from hybridvit.models.attention import explicit_attention
from hybridvit.weights.published import WEIGHTS


@pytest.mark.parametrize("name", catalog.ARCHITECTURES)
def test_every_architecture_has_exactly_its_parameters(name: str) -> None:
    with torch.device("meta"):
        model = catalog.create(name)
    assert sum(p.numel() for p in model.parameters()) == catalog.ARCHITECTURES[name].params


@pytest.mark.parametrize(("name", "published_millions"), [("cvt_13", 20.00), ("cvt_21", 31.62), ("cvt_w24", 277.20)])
def test_cvt_has_the_published_parameters(name: str, published_millions: float) -> None:
    assert round(catalog.ARCHITECTURES[name].params / 1e6, 2) == published_millions


@pytest.mark.parametrize(
    ("name", "published_millions"),
    [("cmt_ti", 9.49), ("cmt_xs", 15.25), ("cmt_s", 26.26), ("cmt_b", 45.72), ("cmt_l", 74.77)],
)
def test_cmt_has_the_published_parameters(name: str, published_millions: float) -> None:
    assert round(catalog.ARCHITECTURES[name].params / 1e6, 2) == published_millions


def gmacs_of_products(name: str, pixels: int) -> float:
    """Convolutions and matrix products, as torch counts them, in 10^9 multiply-accumulates."""
    with torch.device("meta"):
        model, x = catalog.create(name, img_size=pixels).eval(), torch.empty(1, 3, pixels, pixels)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return counter.get_total_flops() / 2e9


@pytest.mark.parametrize(("name", "published"), [("cvt_13", 16.3), ("cvt_21", 24.9), ("cvt_w24", 193.2)])
def test_cvt_at_384_costs_the_published_macs_within_1_percent(name: str, published: float) -> None:
    assert gmacs_of_products(name, 384) == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(("name", "published"), [("cvt_13", 4.5), ("cvt_21", 7.1)])
def test_cvt_at_224_costs_the_published_macs_which_were_cut_to_one_decimal(name: str, published: float) -> None:
    assert int(gmacs_of_products(name, 224) * 10) / 10 == published


@pytest.mark.parametrize(("name", "published"), [("cmt_ti", 0.65), ("cmt_xs", 1.57), ("cmt_s", 4.09), ("cmt_b", 9.42)])
def test_cmt_costs_the_published_macs_within_1_percent(name: str, published: float) -> None:
    """Its published figures count the norms too, as fvcore does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fvcore traces with torch.jit, which torch has deprecated
        from fvcore.nn import FlopCountAnalysis

        logging.disable()
        model = catalog.create(name).eval()
        x = torch.zeros(1, *model.pretrained_cfg["input_size"])
        with explicit_attention():
            gmacs = FlopCountAnalysis(model, x).total() / 1e9
        logging.disable(logging.NOTSET)
    assert gmacs == pytest.approx(published, rel=0.01)


def test_the_inferred_cmt_l_agrees_with_the_figures_of_the_paper() -> None:
    assert catalog.ARCHITECTURES["cmt_l"].params / 1e6 == pytest.approx(74.7, rel=0.01)
    assert gmacs_of_products("cmt_l", 288) == pytest.approx(19.5, rel=0.01)


def test_every_set_of_weights_belongs_to_an_architecture_and_lies_in_exactly_one_place() -> None:
    for name, weights in WEIGHTS.items():
        assert name.partition(".")[0] in catalog.ARCHITECTURES
        assert sum(map(bool, (weights.hub_id, weights.url, weights.by_hand))) == 1, name


def test_an_unknown_name_is_refused_with_the_nearest_ones() -> None:
    with pytest.raises(ConfigError, match="Did you mean cvt_13"):
        hybridvit.create_model("cvt13")


def test_an_unknown_tag_is_refused_with_the_published_ones() -> None:
    with pytest.raises(ConfigError, match=r"Of cmt_s, published: cmt_s\.huawei_in1k"):
        hybridvit.create_model("cmt_s.in22k")


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(ConfigError, match="unexpected keyword argument 'widht'"):
        hybridvit.create_model("cvt_nano", widht=3)


def test_list_models_filters_by_pattern_and_by_weights() -> None:
    assert hybridvit.list_models("cmt_ti*") == [
        "cmt_ti",
        "cmt_ti_flyegle",
        "cmt_ti_kecam",
        "cmt_ti_kecam_port",
        "cmt_ti_mindcv",
    ]
    assert "cvt_13.ms_in1k" in hybridvit.list_models("cvt_13*", pretrained=True)
