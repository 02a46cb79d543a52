"""Every name: what is built under it, what was published of it, where its weights lie.

An architecture is a size and an arithmetic (`cmt_ti`, `cmt_ti_flyegle`, `cvt_13_gelu`); a tag behind a dot is a set of weights
(`cvt_13.ms_in1k`). Nothing here is imported from timm at the top: importing timm registers this catalogue.
"""

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from hybridvit.config import Preprocess
from hybridvit.errors import ConfigError
from hybridvit.models.configs import CMTConfig, CvTConfig

if TYPE_CHECKING:
    from hybridvit.models.backbone import Backbone


@dataclass(frozen=True, kw_only=True)
class Architecture:
    config: CvTConfig | CMTConfig
    preprocess: Preprocess
    """What its authors evaluate with, at the size they train at."""
    params: int
    """Exact, with 1000 classes, at that size."""
    gmacs: float | None
    """Published, in 10^9 multiply-accumulates, at that size; None where nobody published it."""
    top1: float | None = None
    """Published, of the weights trained at that size on ImageNet-1k alone, in percent."""
    source: str
    note: str = ""


def _squash(pixels: int) -> Preprocess:
    return Preprocess(image_size=(pixels, pixels), crop_pct=1.0, crop_mode="squash")


def _crop(pixels: int, **changes: Any) -> Preprocess:
    return Preprocess(image_size=(pixels, pixels), crop_pct=224 / 256, **changes)


_CVT_SIZES = {
    "cvt_13": (CvTConfig(dims=(64, 192, 384), depths=(1, 2, 10), heads=(1, 3, 6)), _crop(224), 19_997_480, 4.5, 81.6),
    "cvt_21": (CvTConfig(dims=(64, 192, 384), depths=(1, 4, 16), heads=(1, 3, 6)), _crop(224), 31_622_696, 7.1, 82.5),
    "cvt_w24": (
        CvTConfig(dims=(192, 768, 1024), depths=(2, 2, 20), heads=(3, 12, 16)),
        _squash(384),
        277_196_392,
        193.2,
        None,
    ),
}

_CMT_TI = CMTConfig(stem_width=16, dims=(46, 92, 184, 368), depths=(2, 2, 10, 2), ffn_ratio=3.6)
_CMT_XS = CMTConfig(stem_width=16, dims=(52, 104, 208, 416), depths=(3, 3, 12, 3), ffn_ratio=3.77)
_CMT_S = CMTConfig(stem_width=32, dims=(64, 128, 256, 512), depths=(3, 3, 16, 3))
_CMT_B = CMTConfig(stem_width=38, dims=(76, 152, 304, 608), depths=(4, 4, 20, 4), head_dropout=0.3)
_CMT_L = CMTConfig(stem_width=44, dims=(88, 176, 352, 704), depths=(5, 5, 25, 5), head_dropout=0.3)
_CMT_SIZES = {"cmt_ti": (_CMT_TI, 160), "cmt_xs": (_CMT_XS, 192), "cmt_s": (_CMT_S, 224), "cmt_b": (_CMT_B, 256)}

_FLYEGLE: dict[str, Any] = {
    "reduce": "dense_ln",
    "position": "offsets",
    "position_init": "trunc_normal",
    "embed_norm": False,
    "block_eps": 1e-5,
    "local_residual": "outside",
    "head": "linear",
    "head_dropout": 0.1,
    "attn_drop_rate": 0.1,
    "proj_drop_rate": 0.1,
    "ffn_drop": False,
    "attn_drop_path": False,
    "zero_conv_bias": False,
}
_KECAM_PORT: dict[str, Any] = {
    "block_eps": 1e-5,
    "head_dropout": 0.0,
    "position_init": "zeros",
    "drop_path_end": "beyond",
}
_KECAM: dict[str, Any] = _KECAM_PORT | {
    "qkv_bias": False,
    "proj_bias": False,
    "reduce": "depthwise_ln",
    "position": "head_offsets",
    "head": "conv_gelu_bn",
}
_MINDCV: dict[str, Any] = {
    "embed_eps": 1e-7,
    "block_eps": 1e-7,
    "gelu": "tanh",
    "head_dropout": 0.0,
    "position_init": "zeros",
}

_TINY_PICTURES = Preprocess(image_size=(32, 32), crop_pct=1.0)
ARCHITECTURES: dict[str, Architecture] = {
    **{
        name: Architecture(
            config=config, preprocess=preprocess, params=params, gmacs=gmacs, top1=top1, source="microsoft/CvT"
        )
        for name, (config, preprocess, params, gmacs, top1) in _CVT_SIZES.items()
    },
    **{
        f"{name}_gelu": Architecture(
            config=replace(config, activation="gelu", drop_path="transformers"),
            preprocess=preprocess,
            params=params,
            gmacs=gmacs,
            source="huggingface/transformers, modeling_cvt.py",
            note="exact GELU, where the published weights were trained with QuickGELU",
        )
        for name, (config, preprocess, params, gmacs, _) in _CVT_SIZES.items()
    },
    **{
        name: Architecture(
            config=_CMT_SIZES[name][0],
            preprocess=_crop(_CMT_SIZES[name][1]),
            params=params,
            gmacs=gmacs,
            top1=top1,
            source="huawei-noah/Efficient-AI-Backbones, cmt_pytorch",
        )
        for name, params, gmacs, top1 in (
            ("cmt_ti", 9_492_426, 0.65, 79.2),
            ("cmt_xs", 15_247_208, 1.57, 81.8),
            ("cmt_s", 26_256_160, 4.09, 83.5),
            ("cmt_b", 45_715_076, 9.42, 84.5),
        )
    },
    "cmt_l": Architecture(
        config=_CMT_L,
        preprocess=_crop(288),
        params=74_774_152,
        gmacs=19.5,
        top1=84.8,
        source="arXiv 2107.06263",
        note="never released: the configuration is inferred from the published parameters and MACs",
    ),
    **{
        f"{name}_flyegle": Architecture(
            config=replace(config, ffn_ratio=3.8 if name == "cmt_xs" else config.ffn_ratio, **_FLYEGLE),
            preprocess=_crop(pixels, interpolation="bilinear"),
            params=params,
            gmacs=None,
            top1=top1,
            source="FlyEgle/CMT-pytorch",
        )
        for (name, (config, pixels)), params, top1 in zip(
            _CMT_SIZES.items(),
            (11_312_526, 18_281_917, 31_754_121, 55_616_316),
            (75.124, None, None, None),
            strict=True,
        )
    },
    "cmt_ti_kecam": Architecture(
        config=replace(_CMT_TI, **_KECAM),
        preprocess=_crop(160),
        params=9_438_204,
        gmacs=None,
        top1=78.94,
        source="leondgarse/keras_cv_attention_models, CMTTiny",
    ),
    **{
        f"{name}_kecam_port": Architecture(
            config=replace(config, **_KECAM_PORT),
            preprocess=_crop(pixels),
            params=params,
            gmacs=None,
            source="leondgarse/keras_cv_attention_models, CMT*_torch",
            note="the authors' weights with LayerNorm eps 1e-5 everywhere",
        )
        for (name, (config, pixels)), params in zip(
            _CMT_SIZES.items(), (9_492_426, 15_247_208, 26_256_160, 45_715_076), strict=True
        )
    },
    **{
        f"{name}_mindcv": Architecture(
            config=replace(config, ffn_ratio=3.8 if name == "cmt_xs" else config.ffn_ratio, **_MINDCV),
            preprocess=Preprocess(image_size=(pixels, pixels), crop_pct=0.96),
            params=params,
            gmacs=None,
            source="mindspore-lab/mindcv",
            note="GELU by tanh, LayerNorm eps 1e-7, position tables never trained",
        )
        for (name, (config, pixels)), params in zip(
            _CMT_SIZES.items(), (9_492_426, 15_311_096, 26_256_160, 45_715_076), strict=True
        )
    },
    "cvt_nano": Architecture(
        config=CvTConfig(
            dims=(48, 96, 128),
            depths=(1, 1, 2),
            heads=(1, 2, 4),
            embed_strides=(4, 1, 2),  # a second dense convolution at 8 x 8, and 4 x 4 left of 32 pixels
        ),
        preprocess=_TINY_PICTURES,
        params=839_176,
        gmacs=None,
        source="hybridvit",
        note="for pictures of 28 to 64 pixels and for tests",
    ),
    "cmt_nano": Architecture(
        config=CMTConfig(
            stem_width=16,
            dims=(32, 64, 128),
            depths=(1, 1, 2),
            heads=(1, 2, 4),
            reductions=(2, 1, 1),
            head_width=256,
        ),
        preprocess=_TINY_PICTURES,
        params=824_392,
        gmacs=None,
        source="hybridvit",
        note="for pictures of 28 to 64 pixels and for tests",
    ),
}
"""Under each name, one size and one arithmetic."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A published set of weights: where its file lies and what it is for."""

    preprocess: Preprocess
    top1: float | None
    licence: str
    hub_id: str = ""
    """A repository of the Hugging Face hub, whose pytorch_model.bin it is."""
    url: str = ""
    by_hand: str = ""
    """Where a person fetches it; no program can."""
    md5: str = ""
    sha256_prefix: str = ""
    arithmetic: str = ""
    """What `convert` is told: "authors" where the file's own form stands for another arithmetic than it was trained with."""


_HUB = "microsoft/cvt-"
_PADDLE = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/CvT_"
_HUAWEI = "https://github.com/ggjy/CMT.pytorch/releases/download/release-v1/cmt_"
_KECAM_FILES = "https://github.com/leondgarse/keras_cv_attention_models/releases/download/cmt/cmt_"
_FLYEGLE_DRIVE = "the Google Drive folder linked from the README of github.com/FlyEgle/CMT-pytorch"
_ONEDRIVE = "the OneDrive folder linked from the README of github.com/microsoft/CvT"
_PADDLEVIT_DRIVE = (
    "the Google Drive folder linked from image_classification/CvT/README.md of github.com/BR-IDL/PaddleViT"
)


def _hub(name: str, preprocess: Preprocess, top1: float) -> Weights:
    return Weights(preprocess=preprocess, top1=top1, licence="apache-2.0", hub_id=_HUB + name, arithmetic="authors")


def _paddle(name: str, preprocess: Preprocess, top1: float) -> Weights:
    return Weights(preprocess=preprocess, top1=top1, licence="apache-2.0", url=f"{_PADDLE}{name}_pretrained.pdparams")


def _huawei(name: str, pixels: int, top1: float) -> Weights:
    return Weights(preprocess=_crop(pixels), top1=top1, licence="mit", url=f"{_HUAWEI}{name}.pth")


def _kecam(name: str, pixels: int, top1: float, md5: str) -> Weights:
    url = f"{_KECAM_FILES}{name}_{pixels}_imagenet.h5"
    return Weights(preprocess=_crop(pixels), top1=top1, licence="mit", url=url, md5=md5)


def _flyegle(pixels: int, top1: float) -> Weights:
    return Weights(
        preprocess=_crop(pixels, interpolation="bilinear"), top1=top1, licence="none stated", by_hand=_FLYEGLE_DRIVE
    )


WEIGHTS: dict[str, Weights] = {
    "cvt_13.ms_in1k": _hub("13", _crop(224), 81.6),
    "cvt_13.ms_in1k_384": _hub("13-384", _squash(384), 83.0),
    "cvt_13.ms_in22k_ft_in1k_384": _hub("13-384-22k", _squash(384), 83.3),
    "cvt_13.paddle_in1k": _paddle("13_224", _crop(224), 81.6),
    "cvt_13.paddle_in1k_384": _paddle("13_384", _squash(384), 83.0),
    "cvt_21.ms_in1k": _hub("21", _crop(224), 82.5),
    "cvt_21.ms_in1k_384": _hub("21-384", _squash(384), 83.3),
    "cvt_21.ms_in22k_ft_in1k_384": _hub("21-384-22k", _squash(384), 84.9),
    "cvt_21.paddle_in1k": _paddle("21_224", _crop(224), 82.5),
    "cvt_21.paddle_in1k_384": _paddle("21_384", _squash(384), 83.3),
    "cvt_w24.ms_in22k_ft_in1k_384": _hub("w24-384-22k", _squash(384), 87.6),
    "cvt_w24.paddle_in22k_ft_in1k_384": _paddle("W24_384", _squash(384), 87.6),
    "cmt_ti.huawei_in1k": _huawei("tiny", 160, 79.0),
    "cmt_xs.huawei_in1k": _huawei("xs", 192, 81.8),
    "cmt_s.huawei_in1k": _huawei("small", 224, 83.5),
    "cmt_b.huawei_in1k": _huawei("base", 256, 84.5),
    "cmt_ti_kecam.in1k": _kecam("tiny", 160, 78.94, "e2f84138c3b994a5722c4b742ad5c62e"),
    "cmt_ti_kecam.in1k_224": _kecam("tiny", 224, 80.73, "8c1778fe8f9db8e12c58f744a585d747"),
    "cmt_ti_kecam_port.huawei_in1k": _kecam("tiny_torch", 160, 79.2, "7105c2dcbdc08f2074b1ecabfdeaa166"),
    "cmt_xs_kecam_port.huawei_in1k": _kecam("xs_torch", 192, 81.8, "62bab26382b36c4a811bcfc8ba1bc699"),
    "cmt_s_kecam_port.huawei_in1k": _kecam("small_torch", 224, 83.5, "2afbdf0f3b18d589ffe87cf8f1817c0c"),
    "cmt_b_kecam_port.huawei_in1k": _kecam("base_torch", 256, 84.5, "2663258907b68c20c7ad0a51f8aed7c4"),
    "cmt_ti_flyegle.in1k": _flyegle(160, 75.124),
    "cmt_ti_flyegle.in1k_224": _flyegle(224, 78.4),
}
"""Architecture and tag of everything published. The first tag of an architecture is its default."""


def architecture(name: str) -> Architecture:
    """The catalogue's entry for `name`, which may carry a tag. Raises ConfigError, with the nearest names."""
    bare = name.partition(".")[0]
    if bare not in ARCHITECTURES:
        near = difflib.get_close_matches(bare, ARCHITECTURES, n=3, cutoff=0.4)
        raise ConfigError(
            f"No model is called {name!r}."
            + (f" Did you mean {', '.join(near)}?" if near else "")
            + " `hybridvit models` lists all names."
        )
    return ARCHITECTURES[bare]


def pretrained_cfg_of(name: str) -> dict[str, Any]:
    """timm's record of an architecture, or of a set of weights: preprocessing, source, and which layers depend on the data."""
    entry = architecture(name)
    bare, _, tag = name.partition(".")
    weights = WEIGHTS.get(name)
    if tag and weights is None:
        tags = ", ".join(known for known in WEIGHTS if known.startswith(bare + ".")) or "none"
        raise ConfigError(f"No weights are called {name!r}. Of {bare}, published: {tags}.")
    is_cvt = isinstance(entry.config, CvTConfig)
    record: dict[str, Any] = (weights or entry).preprocess.to_pretrained_cfg()
    record |= {"architecture": bare, "tag": tag or None, "num_classes": 1000}
    record["first_conv"], record["classifier"] = (
        ("stages.0.embed.conv", "head") if is_cvt else ("stem.0.conv", "head.fc")
    )
    record["paper_ids"] = "arXiv:2103.15808" if is_cvt else "arXiv:2107.06263"
    if weights is not None:
        record |= {"url": weights.url or None, "hf_hub_id": weights.hub_id or None, "license": weights.licence}
        record["hf_hub_filename"] = "pytorch_model.bin" if weights.hub_id else None
    return record


def create(
    name: str,
    *,
    state: dict[str, Tensor] | None = None,
    pretrained: bool = False,
    pretrained_cfg: dict[str, Any] | None = None,
    pretrained_cfg_overlay: dict[str, Any] | None = None,
    cache_dir: str | None = None,
    **kwargs: Any,
) -> "Backbone":
    """Build a model of the catalogue, with random weights unless `state` gives some.

    Args:
        name: an architecture; a tag behind a dot chooses that set of weights' preprocessing.
        state: weights under our names, at `img_size`: timm adapts the first convolution to `in_chans` and leaves out a
            classifier of another size.
        pretrained, pretrained_cfg, pretrained_cfg_overlay, cache_dir: as timm passes them, for files in timm's own format.
        kwargs: arguments of `CvT` or `CMT`, fields of its config (`qkv_bias=False`), or timm's `features_only`, `out_indices`.

    Raises: ConfigError for an unknown name or argument.
    """
    # Imported here: importing timm registers the catalogue, which by then must be complete.
    from timm.models import build_model_with_cfg

    from hybridvit.models.cmt import CMT
    from hybridvit.models.cvt import CvT

    entry = architecture(name)
    bare = name.partition(".")[0]
    config_fields = entry.config.__dataclass_fields__.keys() - {"attn_drop_rate", "proj_drop_rate"}
    config = replace(entry.config, **{key: value for key, value in kwargs.items() if key in config_fields})
    model_kwargs = {key: value for key, value in kwargs.items() if key not in config_fields}
    model_class: type[Backbone] = CvT
    if isinstance(config, CMTConfig):
        model_class = CMT
        model_kwargs["img_size"] = kwargs.get("img_size") or WEIGHTS.get(name, entry).preprocess.image_size
    if state is not None:
        pretrained, pretrained_cfg_overlay = True, (pretrained_cfg_overlay or {}) | {"state_dict": state}
    try:
        model = build_model_with_cfg(
            model_class,
            bare,
            pretrained,
            pretrained_cfg=pretrained_cfg or pretrained_cfg_of(name),
            pretrained_cfg_overlay=pretrained_cfg_overlay,
            model_cfg=config,
            feature_cfg={"out_indices": tuple(range(len(config.dims))), "feature_cls": "getter"},
            cache_dir=cache_dir,
            **model_kwargs,
        )
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise ConfigError(
            f"{bare}: {str(error).partition(' ')[2]}. {model_class.__name__} lists its arguments."
        ) from None
    model.pretrained_cfg.pop("state_dict", None)
    model.architecture = bare
    model._model_args = {key: kwargs[key] for key in kwargs if key not in ("features_only", "out_indices")}
    return model
