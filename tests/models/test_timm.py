"""Everything timm's users expect of a name in its registry."""

import json
import subprocess
import sys

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.models import save_for_hf
from timm.optim import param_groups_layer_decay, param_groups_weight_decay

import hybridvit
from hybridvit.models import catalog
from hybridvit.weights.published import WEIGHTS
from support import pictures, randomise

SMALL_CMT = {"img_size": 64, "depths": (1, 1, 2, 1)}


def test_all_names_are_in_the_registry() -> None:
    assert set(catalog.ARCHITECTURES) <= set(timm.list_models())
    assert set(WEIGHTS) <= set(timm.list_models("c*", pretrained=True)) | {
        name for name, weights in WEIGHTS.items() if weights.by_hand
    }


@pytest.mark.parametrize(
    "order", ["import hybridvit, timm", "import timm, hybridvit", "import hybridvit.models.cvt, timm"]
)
def test_names_are_registered_whichever_is_imported_first_and_without_a_warning(order: str) -> None:
    code = f"{order}; assert timm.is_model('cmt_s'); assert timm.create_model('cvt_nano').num_classes == 1000"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, hybridvit; assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_a_name_that_timm_already_has_stays_timms_and_ours_stays_ours() -> None:
    code = """
import timm, torch
from timm.models import register_model
@register_model
def cvt_nano(pretrained=False, **kwargs):
    return torch.nn.Flatten()
import hybridvit
assert isinstance(timm.create_model("cvt_nano"), torch.nn.Flatten)
assert hybridvit.create_model("cvt_nano").architecture == "cvt_nano"
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_features_only_gives_maps_at_the_stated_strides_and_widths() -> None:
    x = torch.randn(2, 3, 64, 96)
    for name, strides in (
        ("cmt_ti", [4, 8, 16, 32]),
        ("cvt_13", [4, 8, 16]),
        ("cvt_nano", [4, 4, 8]),
        ("cmt_nano", [4, 8, 16]),
    ):
        model = timm.create_model(name, features_only=True).eval()
        assert model.feature_info.reduction() == strides
        for stride, channels, map_BCHW in zip(strides, model.feature_info.channels(), model(x), strict=True):
            assert map_BCHW.shape == (2, channels, 64 // stride, 96 // stride)


def test_out_indices_choose_the_maps_and_later_stages_are_dropped() -> None:
    whole = timm.create_model("cmt_ti", features_only=True)
    part = timm.create_model("cmt_ti", features_only=True, out_indices=(0, 2))
    assert [m.shape[1] for m in part(torch.randn(2, 3, 64, 64))] == [46, 184]
    assert sum(p.numel() for p in part.parameters()) < 0.6 * sum(p.numel() for p in whole.parameters())


@pytest.mark.parametrize(("name", "strides"), [("cvt_nano", (4, 4, 8)), ("cmt_nano", (4, 8, 16))])
def test_intermediates_are_the_features_on_the_way_to_the_logits(name: str, strides: tuple[int, ...]) -> None:
    model = randomise(hybridvit.create_model(name, num_classes=5)).eval()
    x = pictures(2, 32, 48)
    features, maps = model.forward_intermediates(x)
    assert torch.equal(model.forward_head(features), model(x))
    assert [m.shape[-2:] for m in maps] == [(32 // stride, 48 // stride) for stride in strides]
    last_two = model.forward_intermediates(x, indices=2, intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(last_two, maps[-2:], strict=True))
    (first,) = model.forward_intermediates(x, indices=[0], stop_early=True, intermediates_only=True)
    assert torch.equal(first, maps[0])


def test_the_final_norm_of_cvt_is_applied_to_its_last_map_on_request() -> None:
    model = randomise(hybridvit.create_model("cvt_nano")).eval()
    plain, normed = (
        model.forward_intermediates(pictures(1, 32, 32), norm=norm, intermediates_only=True) for norm in (False, True)
    )
    expected = model.norm(plain[-1].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert torch.equal(normed[-1], expected)
    assert torch.equal(normed[0], plain[0])


@pytest.mark.parametrize(
    ("name", "size", "crop_mode", "crop_pct", "interpolation"),
    [
        ("cvt_13.ms_in1k", 224, "center", 0.875, "bicubic"),
        ("cvt_13.ms_in22k_ft_in1k_384", 384, "squash", 1.0, "bicubic"),
        ("cmt_s.huawei_in1k", 224, "center", 0.875, "bicubic"),
        ("cmt_ti_flyegle", 160, "center", 0.875, "bilinear"),
    ],
)
def test_each_set_of_weights_brings_its_own_preprocessing(
    name: str, size: int, crop_mode: str, crop_pct: float, interpolation: str
) -> None:
    config = timm.data.resolve_model_data_config(timm.create_model(name))
    assert config["input_size"] == (3, size, size)
    assert (config["crop_mode"], config["crop_pct"], config["interpolation"]) == (crop_mode, crop_pct, interpolation)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [("cvt_nano", {"num_classes": 4}), ("cmt_ti", {"num_classes": 4, **SMALL_CMT}), ("cmt_nano", {"in_chans": 1})],
)
def test_a_model_saved_for_the_hub_comes_back_from_the_folder(tmp_path, name: str, kwargs: dict) -> None:
    model = hybridvit.create_model(name, **kwargs).eval()
    save_for_hf(model, tmp_path, safe_serialization=True)
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == name
    assert load_file(tmp_path / "model.safetensors").keys() == model.state_dict().keys()
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    x = torch.randn(2, kwargs.get("in_chans", 3), 64, 64)
    assert torch.equal(again(x), model(x))


@pytest.mark.parametrize(("name", "kwargs"), [("cvt_13", {}), ("cmt_ti", SMALL_CMT)])
def test_layer_decay_rises_with_depth_and_misses_no_parameter(name: str, kwargs: dict) -> None:
    model = timm.create_model(name, **kwargs)
    groups = param_groups_layer_decay(
        model, weight_decay=0.05, layer_decay=0.5, no_weight_decay_list=model.no_weight_decay()
    )
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert len(scale) == len(list(model.parameters()))
    classifier, first = next(model.get_classifier().parameters()), next(model.parameters())
    assert scale[id(classifier)] == 1.0
    assert scale[id(first)] == min(scale.values())
    depth = [scale[id(block.norm1.weight)] for stage in model.stages for block in stage.blocks]
    assert depth == sorted(depth)
    assert len(set(depth)) == len(depth)


def test_class_token_and_absolute_positions_do_not_decay() -> None:
    cvt = timm.create_model("cvt_nano")
    cmt = timm.create_model("cmt_ti_flyegle", absolute_position=True, **SMALL_CMT)
    for model, parameter in ((cvt, cvt.stages[2].cls_token), (cmt, cmt.stages[0].absolute_position)):
        groups = param_groups_weight_decay(model, 0.05, no_weight_decay_list=model.no_weight_decay())
        decays = next(group for group in groups if group["weight_decay"] > 0)
        assert all(p is not parameter for p in decays["params"])
