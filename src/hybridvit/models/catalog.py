"""Every architecture: what is built under its name, and what was published of it. A row is a size and an arithmetic.

Where weights lie, `hybridvit.weights.published` says. Nothing is imported from timm at the top: importing timm registers this
catalogue.
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


@dataclass(frozen=True)
class Architecture:
    config: CvTConfig | CMTConfig
    preprocess: Preprocess
    """What its authors evaluate with, at the size they train at."""
    params: int
    """Exact, with 1000 classes, at that size."""
    gmacs: float | None
    """Published, in 10^9 multiply-accumulates, at that size; None where nobody published it."""
    top1: float | None
    """Published, of the weights trained at that size on ImageNet-1k alone, in percent."""
    source: str
    note: str = ""


def squash(pixels: int) -> Preprocess:
    """Both sides resized, nothing cropped."""
    return Preprocess(image_size=(pixels, pixels), crop_pct=1.0, crop_mode="squash")


def crop(pixels: int, crop_pct: float = 224 / 256, **changes: Any) -> Preprocess:
    """The short side resized, the centre cropped."""
    return Preprocess(image_size=(pixels, pixels), crop_pct=crop_pct, **changes)


_CVT_13 = CvTConfig(dims=(64, 192, 384), depths=(1, 2, 10), heads=(1, 3, 6))
_CVT_21 = replace(_CVT_13, depths=(1, 4, 16))
_CVT_W24 = CvTConfig(dims=(192, 768, 1024), depths=(2, 2, 20), heads=(3, 12, 16))
_GELU: dict[str, Any] = {"activation": "gelu", "drop_path": "transformers"}

_CMT_TI = CMTConfig(stem_width=16, dims=(46, 92, 184, 368), depths=(2, 2, 10, 2), ffn_ratio=3.6)
_CMT_XS = CMTConfig(stem_width=16, dims=(52, 104, 208, 416), depths=(3, 3, 12, 3), ffn_ratio=3.77)
_CMT_S = CMTConfig(stem_width=32, dims=(64, 128, 256, 512), depths=(3, 3, 16, 3))
_CMT_B = CMTConfig(stem_width=38, dims=(76, 152, 304, 608), depths=(4, 4, 20, 4), head_dropout=0.3)
_CMT_L = CMTConfig(stem_width=44, dims=(88, 176, 352, 704), depths=(5, 5, 25, 5), head_dropout=0.3)
_PAPER_XS = replace(_CMT_XS, ffn_ratio=3.8)  # which the authors' own weights do not have
_FLYEGLE: dict[str, Any] = {
    **{"reduce": "dense_ln", "position": "offsets", "position_init": "trunc_normal", "embed_norm": False},
    **{"block_eps": 1e-5, "local_residual": "outside", "head": "linear", "head_dropout": 0.1, "attn_drop_rate": 0.1},
    **{"proj_drop_rate": 0.1, "ffn_drop": False, "attn_drop_path": False, "zero_conv_bias": False},
}
_PORT: dict[str, Any] = {
    **{"block_eps": 1e-5, "head_dropout": 0.0, "position_init": "zeros", "drop_path_end": "beyond"},
}
_KECAM: dict[str, Any] = _PORT | {
    **{"qkv_bias": False, "proj_bias": False, "reduce": "depthwise_ln", "position": "head_offsets"},
    "head": "conv_gelu_bn",
}
_MINDCV: dict[str, Any] = {
    **{"embed_eps": 1e-7, "block_eps": 1e-7, "gelu": "tanh", "head_dropout": 0.0, "position_init": "zeros"},
}
_CVT_NANO = CvTConfig(
    dims=(48, 96, 128),
    depths=(1, 1, 2),
    heads=(1, 2, 4),
    embed_strides=(4, 1, 2),  # a second dense convolution at 8 x 8, and 4 x 4 left of 32 pixels
)
_CMT_NANO = CMTConfig(
    stem_width=16, dims=(32, 64, 128), depths=(1, 1, 2), heads=(1, 2, 4), reductions=(2, 1, 1), head_width=256
)

# Where a row comes from, and what a reader should know about it.
MICROSOFT = ("microsoft/CvT",)
TRANSFORMERS = (
    "huggingface/transformers, modeling_cvt.py",
    "exact GELU, where the published weights were trained with QuickGELU",
)
HUAWEI = ("huawei-noah/Efficient-AI-Backbones, cmt_pytorch",)
PAPER = (
    "arXiv 2107.06263",
    "never released: the configuration is inferred from the published parameters and MACs",
)
FLYEGLE = ("FlyEgle/CMT-pytorch",)
KECAM = ("leondgarse/keras_cv_attention_models, CMTTiny",)
PORT = (
    "leondgarse/keras_cv_attention_models, CMT*_torch",
    "the authors' weights with LayerNorm eps 1e-5 everywhere",
)
MINDCV = ("mindspore-lab/mindcv", "GELU by tanh, LayerNorm eps 1e-7, position tables never trained")
OWN = ("hybridvit", "for pictures of 28 to 64 pixels and for tests")


def _bilinear(pixels: int) -> Preprocess:
    return crop(pixels, interpolation="bilinear")


ARCHITECTURES: dict[str, Architecture] = {
    # name                            configuration                  preprocess      params         gmacs  top1    source
    "cvt_13":            Architecture(_CVT_13,                        crop(224),       19_997_480,    4.5, 81.6,   *MICROSOFT),
    "cvt_21":            Architecture(_CVT_21,                        crop(224),       31_622_696,    7.1, 82.5,   *MICROSOFT),
    "cvt_w24":           Architecture(_CVT_W24,                       squash(384),    277_196_392,  193.2, None,   *MICROSOFT),
    "cvt_13_gelu":       Architecture(replace(_CVT_13, **_GELU),      crop(224),       19_997_480,    4.5, None,   *TRANSFORMERS),
    "cvt_21_gelu":       Architecture(replace(_CVT_21, **_GELU),      crop(224),       31_622_696,    7.1, None,   *TRANSFORMERS),
    "cvt_w24_gelu":      Architecture(replace(_CVT_W24, **_GELU),     squash(384),    277_196_392,  193.2, None,   *TRANSFORMERS),
    "cmt_ti":            Architecture(_CMT_TI,                        crop(160),        9_492_426,   0.65, 79.2,   *HUAWEI),
    "cmt_xs":            Architecture(_CMT_XS,                        crop(192),       15_247_208,   1.57, 81.8,   *HUAWEI),
    "cmt_s":             Architecture(_CMT_S,                         crop(224),       26_256_160,   4.09, 83.5,   *HUAWEI),
    "cmt_b":             Architecture(_CMT_B,                         crop(256),       45_715_076,   9.42, 84.5,   *HUAWEI),
    "cmt_l":             Architecture(_CMT_L,                         crop(288),       74_774_152,   19.5, 84.8,   *PAPER),
    "cmt_ti_flyegle":    Architecture(replace(_CMT_TI, **_FLYEGLE),   _bilinear(160),  11_312_526,   None, 75.124, *FLYEGLE),
    "cmt_xs_flyegle":    Architecture(replace(_PAPER_XS, **_FLYEGLE), _bilinear(192),  18_281_917,   None, None,   *FLYEGLE),
    "cmt_s_flyegle":     Architecture(replace(_CMT_S, **_FLYEGLE),    _bilinear(224),  31_754_121,   None, None,   *FLYEGLE),
    "cmt_b_flyegle":     Architecture(replace(_CMT_B, **_FLYEGLE),    _bilinear(256),  55_616_316,   None, None,   *FLYEGLE),
    "cmt_ti_kecam":      Architecture(replace(_CMT_TI, **_KECAM),     crop(160),        9_438_204,   None, 78.94,  *KECAM),
    "cmt_ti_kecam_port": Architecture(replace(_CMT_TI, **_PORT),      crop(160),        9_492_426,   None, None,   *PORT),
    "cmt_xs_kecam_port": Architecture(replace(_CMT_XS, **_PORT),      crop(192),       15_247_208,   None, None,   *PORT),
    "cmt_s_kecam_port":  Architecture(replace(_CMT_S, **_PORT),       crop(224),       26_256_160,   None, None,   *PORT),
    "cmt_b_kecam_port":  Architecture(replace(_CMT_B, **_PORT),       crop(256),       45_715_076,   None, None,   *PORT),
    "cmt_ti_mindcv":     Architecture(replace(_CMT_TI, **_MINDCV),    crop(160, 0.96),  9_492_426,   None, None,   *MINDCV),
    "cmt_xs_mindcv":     Architecture(replace(_PAPER_XS, **_MINDCV),  crop(192, 0.96), 15_311_096,   None, None,   *MINDCV),
    "cmt_s_mindcv":      Architecture(replace(_CMT_S, **_MINDCV),     crop(224, 0.96), 26_256_160,   None, None,   *MINDCV),
    "cmt_b_mindcv":      Architecture(replace(_CMT_B, **_MINDCV),     crop(256, 0.96), 45_715_076,   None, None,   *MINDCV),
    "cvt_nano":          Architecture(_CVT_NANO,                      crop(32, 1.0),      839_176,   None, None,   *OWN),
    "cmt_nano":          Architecture(_CMT_NANO,                      crop(32, 1.0),      824_392,   None, None,   *OWN),
}  # fmt: skip
"""Under each name, one size and one arithmetic."""


def architecture(name: str) -> Architecture:
    """The catalogue's entry. Raises ConfigError, with the nearest names."""
    if name not in ARCHITECTURES:
        near = difflib.get_close_matches(name, ARCHITECTURES, n=3, cutoff=0.4)
        raise ConfigError(
            f"No model is called {name!r}."
            + (f" Did you mean {', '.join(near)}?" if near else "")
            + " `hybridvit models` lists all names."
        )
    return ARCHITECTURES[name]


def pretrained_cfg_of(name: str) -> dict[str, Any]:
    """timm's record of an architecture: preprocessing, paper, and which layers depend on the data."""
    entry = architecture(name)
    is_cvt = isinstance(entry.config, CvTConfig)
    return entry.preprocess.to_pretrained_cfg() | {
        "architecture": name,
        "tag": None,
        "num_classes": 1000,
        "first_conv": "stages.0.embed.conv" if is_cvt else "stem.0.conv",
        "classifier": "head" if is_cvt else "head.fc",
        "paper_ids": "arXiv:2103.15808" if is_cvt else "arXiv:2107.06263",
    }


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
        name: an architecture.
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
    config_fields = entry.config.__dataclass_fields__.keys() - {"attn_drop_rate", "proj_drop_rate"}
    config = replace(entry.config, **{key: value for key, value in kwargs.items() if key in config_fields})
    model_kwargs = {key: value for key, value in kwargs.items() if key not in config_fields}
    model_class: type[Backbone] = CvT
    if isinstance(config, CMTConfig):
        model_class = CMT
        model_kwargs["img_size"] = kwargs.get("img_size") or entry.preprocess.image_size
    if state is not None:
        pretrained, pretrained_cfg_overlay = True, (pretrained_cfg_overlay or {}) | {"state_dict": state}
    try:
        model = build_model_with_cfg(
            model_class,
            name,
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
            f"{name}: {str(error).partition(' ')[2]}. {model_class.__name__} lists its arguments."
        ) from None
    model.pretrained_cfg.pop("state_dict", None)
    model.architecture = name
    model._model_args = {key: kwargs[key] for key in kwargs if key not in ("features_only", "out_indices")}
    return model
