"""Every published set of weights: where its file lies, its licence, its hash, what it is evaluated with.

A name is an architecture, a dot and a tag: `cvt_13.ms_in1k`.
"""

import difflib
from dataclasses import dataclass
from typing import Any

from hybridvit.config import Preprocess
from hybridvit.errors import ConfigError, DownloadError
from hybridvit.models import catalog
from hybridvit.models.catalog import crop, squash

HUB_FILE = "pytorch_model.bin"


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
    """As its publisher gives it; none gives another one."""
    arithmetic: str = ""
    """What `convert` is told: "authors" where the file's own form stands for another arithmetic than it was trained with."""


_PADDLE = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/CvT_"
_HUAWEI = "https://github.com/ggjy/CMT.pytorch/releases/download/release-v1/cmt_"
_KECAM_FILES = "https://github.com/leondgarse/keras_cv_attention_models/releases/download/cmt/cmt_"
_FLYEGLE_DRIVE = "the Google Drive folder linked from the README of github.com/FlyEgle/CMT-pytorch"


def _hub(name: str, preprocess: Preprocess, top1: float) -> Weights:
    hub_id = f"microsoft/cvt-{name}"
    return Weights(preprocess=preprocess, top1=top1, licence="apache-2.0", hub_id=hub_id, arithmetic="authors")


def _paddle(name: str, preprocess: Preprocess, top1: float) -> Weights:
    return Weights(preprocess=preprocess, top1=top1, licence="apache-2.0", url=f"{_PADDLE}{name}_pretrained.pdparams")


def _huawei(name: str, pixels: int, top1: float) -> Weights:
    return Weights(preprocess=crop(pixels), top1=top1, licence="mit", url=f"{_HUAWEI}{name}.pth")


def _kecam(name: str, pixels: int, top1: float, md5: str) -> Weights:
    url = f"{_KECAM_FILES}{name}_{pixels}_imagenet.h5"
    return Weights(preprocess=crop(pixels), top1=top1, licence="mit", url=url, md5=md5)


def _flyegle(pixels: int, top1: float) -> Weights:
    preprocess = crop(pixels, interpolation="bilinear")
    return Weights(preprocess=preprocess, top1=top1, licence="none stated", by_hand=_FLYEGLE_DRIVE)


WEIGHTS: dict[str, Weights] = {
    "cvt_13.ms_in1k": _hub("13", crop(224), 81.6),
    "cvt_13.ms_in1k_384": _hub("13-384", squash(384), 83.0),
    "cvt_13.ms_in22k_ft_in1k_384": _hub("13-384-22k", squash(384), 83.3),
    "cvt_13.paddle_in1k": _paddle("13_224", crop(224), 81.6),
    "cvt_13.paddle_in1k_384": _paddle("13_384", squash(384), 83.0),
    "cvt_21.ms_in1k": _hub("21", crop(224), 82.5),
    "cvt_21.ms_in1k_384": _hub("21-384", squash(384), 83.3),
    "cvt_21.ms_in22k_ft_in1k_384": _hub("21-384-22k", squash(384), 84.9),
    "cvt_21.paddle_in1k": _paddle("21_224", crop(224), 82.5),
    "cvt_21.paddle_in1k_384": _paddle("21_384", squash(384), 83.3),
    "cvt_w24.ms_in22k_ft_in1k_384": _hub("w24-384-22k", squash(384), 87.6),
    "cvt_w24.paddle_in22k_ft_in1k_384": _paddle("W24_384", squash(384), 87.6),
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


def find_weights(name: str) -> str:
    """Architecture and tag of the weights that `name` means: an architecture alone means its first tag.

    Raises: ConfigError for an unknown name or tag, DownloadError for an architecture of which nothing was published.
    """
    bare, _, tag = name.partition(".")
    note = catalog.architecture(bare).note
    of_bare = [known for known in WEIGHTS if known.startswith(f"{bare}.")]
    if tag and name not in of_bare:
        raise ConfigError(f"No weights are called {name!r}. Of {bare}, published: {', '.join(of_bare) or 'none'}.")
    if not of_bare:
        published = dict.fromkeys(known.partition(".")[0] for known in WEIGHTS)
        near = difflib.get_close_matches(name, published, n=3, cutoff=0.3)
        raise DownloadError(
            f"No weights of {name} were published{f' ({note})' if note else ''}. Leave pretrained out to begin with random "
            f"weights, or take a name that has some, such as {', '.join(near)}."
        )
    return name if tag else of_bare[0]


def pretrained_cfg_of(tagged: str) -> dict[str, Any]:
    """timm's record of a set of weights: that of its architecture, with the weights' own preprocessing and place.

    Raises: ConfigError for an unknown name or tag.
    """
    weights = WEIGHTS[find_weights(tagged)]
    bare, _, tag = tagged.partition(".")
    return {
        **catalog.pretrained_cfg_of(bare),
        **weights.preprocess.to_pretrained_cfg(),
        "tag": tag,
        "url": weights.url or None,
        "hf_hub_id": weights.hub_id or None,
        "hf_hub_filename": HUB_FILE if weights.hub_id else None,
        "license": weights.licence,
    }
