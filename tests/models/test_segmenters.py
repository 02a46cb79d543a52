"""Heads that give every pixel a class: figures, arithmetic against what others wrote, and any backbone."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import hybridvit
from hybridvit.errors import ConfigError
from hybridvit.models.heads import assembly
from hybridvit.models.heads.features import Features
from hybridvit.models.heads.semantic_fpn import SemanticFPN
from hybridvit.models.heads.upernet import FCN, UPerNet
from support import pictures, randomise, relative_error

CHANNELS, STRIDES = (8, 12, 16, 20), (4, 8, 16, 32)
ODD = ((23, 17), (11, 9), (6, 4), (3, 2))


def odd_maps(sizes: tuple[tuple[int, int], ...] = ODD) -> list[Tensor]:
    return [pictures(2, *size, channels=width) for size, width in zip(sizes, CHANNELS, strict=False)]


# With 150 classes at 512 x 512: parameters, and 10^9 multiply-accumulates of convolutions, linear layers and attention.
FIGURES = {
    "semantic_fpn_cmt_ti": (11_917_688, 27.48, 2.22),
    "semantic_fpn_cmt_s": (28_566_222, 41.41, 4.76),
    "upernet_cmt_ti": (36_855_310, 216.34, 2.22),
    "upernet_cmt_s": (54_623_588, 230.56, 4.76),
    "semantic_fpn_cvt_13": (22_599_126, 41.64, 13.83),
    "upernet_cvt_13": (44_100_972, 199.09, 13.83),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_segmenter_has_exactly_its_parameters_and_products(name: str) -> None:
    params, gmacs, attention = FIGURES[name]
    with torch.device("meta"):
        model, x = assembly.create(name, num_classes=150), torch.empty(1, 3, 512, 512)
        at_512 = assembly.create(name, num_classes=150, img_size=512).eval()  # no position table is resized on the way
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = at_512(x)
    assert logits.shape == (1, 150, 512, 512)
    assert sum(p.numel() for p in model.parameters()) == params
    in_attention = counter.get_flop_counts()["Global"][torch.ops.aten.bmm] / 2e9
    assert in_attention == pytest.approx(attention, abs=0.005)
    assert counter.get_total_flops() / 2e9 - in_attention == pytest.approx(gmacs, abs=0.005)


@pytest.mark.parametrize("head", ["semantic_fpn", "upernet"])
def test_the_heads_parameters_follow_from_the_published_sizes(head: str) -> None:
    classes, conv = 150, lambda a, b, k: a * b * k * k + 2 * b  # a convolution without bias, and its BatchNorm
    if head == "semantic_fpn":
        pyramid = sum(256 * c + 256 for c in CHANNELS) + 4 * (256 * 256 * 9 + 256)
        expected = pyramid + 4 * conv(256, 128, 3) + 3 * conv(128, 128, 3) + 129 * classes
        model: nn.Module = SemanticFPN(CHANNELS, STRIDES, classes)
    else:
        pooling = 4 * conv(20, 512, 1) + conv(20 + 4 * 512, 512, 3)
        pyramid = sum(conv(c, 512, 1) + conv(512, 512, 3) for c in CHANNELS[:3])
        expected = pooling + pyramid + conv(4 * 512, 512, 3) + 513 * classes
        model = UPerNet(CHANNELS, classes)
    assert sum(p.numel() for p in model.parameters()) == expected


def in_their_names(model: nn.Module) -> dict[str, Tensor]:
    """UPerNet's and FCN's weights under the names of transformers."""
    parts = {
        "pools.": "psp_modules.",
        "lateral.": "lateral_convs.",
        "smooth.": "fpn_convs.",
        "join.": "fpn_bottleneck.",
        "conv.": "convs.0.",
    }
    renamed = {}
    for name, tensor in model.state_dict().items():
        for ours, theirs in parts.items():
            name = theirs + name.removeprefix(ours) if name.startswith(ours) else name
        if "classifier" not in name:
            block, index, parameter = name.rsplit(".", 2)
            name = f"{block}.{'conv' if index == '0' else 'batch_norm'}.{parameter}"
        renamed[name] = tensor
    return renamed


@pytest.mark.parametrize("levels", [3, 4])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_upernet_and_its_auxiliary_head_compute_what_transformers_computes(levels: int, mode: str) -> None:
    from transformers import UperNetConfig
    from transformers.models.upernet.modeling_upernet import UperNetFCNHead, UperNetHead

    config, channels = UperNetConfig(num_labels=7, hidden_size=512), CHANNELS[:levels]
    ours = (UPerNet(channels, 7, drop_rate=0.0), FCN(channels, 7, drop_rate=0.0))
    theirs = (UperNetHead(config, list(channels)), UperNetFCNHead(config, list(channels), in_index=levels - 2))
    for our_head, their_head in zip(ours, theirs, strict=True):
        randomise(our_head).train(mode == "train")
        their_head.double().load_state_dict(in_their_names(our_head))
        their_head.train(mode == "train")
        with torch.no_grad():
            assert relative_error(our_head(odd_maps()[:levels]), their_head(odd_maps()[:levels])) < 1e-13


def written_out(weights: dict[str, Tensor], maps: list[Tensor]) -> Tensor:
    """Semantic FPN for strides 4, 8, 16, 32, in eval mode, from torch's functions alone."""

    def conv(x: Tensor, name: str, padding: int = 0) -> Tensor:
        return F.conv2d(x, weights[name + ".weight"], weights.get(name + ".bias"), padding=padding)

    def up(x: Tensor, size: tuple[int, int], mode: str) -> Tensor:
        return F.interpolate(x, size, mode=mode, **({} if mode == "nearest" else {"align_corners": False}))

    tops = [conv(maps[i], f"pyramid.inner_blocks.{i}.0") for i in range(4)]
    for i in (2, 1, 0):
        tops[i] = tops[i] + up(tops[i + 1], tops[i].shape[2:], "nearest")
    total = torch.zeros(())
    for i in range(4):
        x = conv(tops[i], f"pyramid.layer_blocks.{i}.0", padding=1)
        for step in range(max(1, i)):
            name = f"branches.{i}.{step * (2 if i else 1)}"
            x = conv(x, f"{name}.0", padding=1)
            mean, var, gain, shift = (
                weights[f"{name}.1.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
            )
            x = ((x - mean) / (var + 1e-5).sqrt() * gain + shift).clamp(min=0)
            if i:
                x = up(x, (2 * x.shape[2], 2 * x.shape[3]), "bilinear")
        total = total + (x if x.shape[2:] == tops[0].shape[2:] else up(x, tops[0].shape[2:], "bilinear"))
    return conv(total, "classifier")


@pytest.mark.parametrize("sizes", [ODD, ((24, 16), (12, 8), (6, 4), (3, 2))])
def test_semantic_fpn_computes_its_written_out_form(sizes: tuple[tuple[int, int], ...]) -> None:
    head, maps = randomise(SemanticFPN(CHANNELS, STRIDES, 7)).eval(), odd_maps(sizes)
    with torch.no_grad():
        found = head(maps)
    assert found.shape == (2, 7, *sizes[0])
    assert relative_error(found, written_out(head.state_dict(), maps)) < 1e-13


SMALL = ["semantic_fpn_cmt_nano", "semantic_fpn_cvt_nano", "upernet_cmt_nano", "upernet.timm/resnet18"]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(64, 64), (49, 75)])
def test_any_picture_gives_logits_at_its_own_size(name: str, size: tuple[int, int]) -> None:
    model = hybridvit.create_model(name, num_classes=5).eval()
    with torch.no_grad():
        logits = model(torch.rand(1, 3, *size))
    assert logits.shape == (1, 5, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns(name: str) -> None:
    """DistributedDataParallel dies in its second step where one does not."""
    model = hybridvit.create_model(name, num_classes=5).train()
    outputs = model(torch.rand(2, 3, 64, 64))
    outputs = outputs if isinstance(outputs, dict) else {"out": outputs}
    assert list(outputs) == ["out", "auxiliary"][: len(outputs)]
    assert len(outputs) == 1 + name.startswith("upernet")
    sum(each.square().mean() for each in outputs.values()).backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def test_the_levels_are_the_last_map_of_each_stride_from_4_on() -> None:
    strides = {
        "cmt_ti": (4, 8, 16, 32),
        "cvt_13": (4, 8, 16),
        "cvt_nano": (4, 8),
        "timm/resnet50": (4, 8, 16, 32),
        "timm/vit_tiny_patch16_224": (16,),
        "timm/swin_tiny_patch4_window7_224": (4, 8, 16, 32),
    }
    with torch.device("meta"):
        found = {name: Features(name) for name in strides}
    assert {name: features.strides for name, features in found.items()} == strides
    assert found["cvt_nano"].channels == (96, 128)


def test_maps_with_the_channels_behind_are_turned() -> None:
    with torch.device("meta"):
        model = assembly.create("semantic_fpn.timm/swin_tiny_patch4_window7_224", num_classes=5)
        assert model.eval()(torch.empty(1, 3, 224, 224)).shape == (1, 5, 224, 224)


def test_another_number_of_classes_and_of_channels() -> None:
    model = hybridvit.create_model("upernet_cmt_nano", num_classes=5, in_chans=1)
    model.reset_classifier(3)
    outputs = model(torch.rand(2, 1, 64, 64))
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {
        "out": (2, 3, 64, 64),
        "auxiliary": (2, 3, 64, 64),
    }
    assert model.num_classes == model.get_classifier().out_channels == 3


def test_gradient_checkpointing_changes_no_gradient() -> None:
    def gradient(checkpointing: bool) -> Tensor:
        model = randomise(hybridvit.create_model("semantic_fpn_cmt_nano", num_classes=3, head_drop_rate=0.0)).train()
        model.set_grad_checkpointing(checkpointing)
        model(pictures(2, 64, 64)).square().mean().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    assert relative_error(gradient(True), gradient(False)) < 1e-12


def test_segmenters_are_listed_by_their_task() -> None:
    found = hybridvit.list_models("*cmt_s", task="segmentation")
    assert found == ["semantic_fpn_cmt_s", "upernet_cmt_s"]
    assert not set(hybridvit.list_models()) & set(hybridvit.list_models(task="segmentation"))


def test_one_picture_at_a_time_is_refused_where_upernet_learns() -> None:
    model = hybridvit.create_model("upernet_cmt_nano", num_classes=5).train()
    with pytest.raises(ConfigError, match="at least 2 pictures at a time"):
        model(torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("semantic_fpn_cmt", {}, "'cmt' is neither"),
        ("upernet.timm/resnet5000", {}, "timm has no model 'resnet5000'"),
        ("semantic_fpn_cmt_nano", {"widht": 3}, "unexpected keyword argument 'widht'"),
        ("upernet.timm/resnet18", {"widht": 3}, "timm/resnet18 cannot be built as a backbone"),
        ("semantic_fpn_cmt_nano", {"num_classes": 0}, "num_classes must be at least 1"),
        ("semantic_fpn_cmt_nano", {"pretrained": True}, "No weights are published for semantic_fpn_cmt_nano"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        hybridvit.create_model(name, **{"num_classes": 5, **kwargs})
