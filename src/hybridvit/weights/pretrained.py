"""Names to models: the front door for those who do not hold a file."""

from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from timm.layers import to_2tuple
from torch import Tensor, nn

from hybridvit.errors import CheckpointError, ConfigError
from hybridvit.models import catalog
from hybridvit.models.heads import assembly
from hybridvit.weights import checkpoint, download
from hybridvit.weights.load import read_checkpoint
from hybridvit.weights.published import WEIGHTS, find_weights, pretrained_cfg_of


def list_models(pattern: str = "*", *, pretrained: bool = False, task: str = "classification") -> list[str]:
    """Names that match `pattern` ("cmt_*"); with `pretrained`, architecture and tag of all published weights.

    Other tasks ("segmentation") have their own names: a head, and a backbone that it reads. Nothing is published for them.
    """
    names: Iterable[str] = WEIGHTS if pretrained else catalog.ARCHITECTURES
    if task != "classification":
        names = [] if pretrained else assembly.names(task)
    return [name for name in names if fnmatch(name, pattern)]


def create_model(
    name: str, pretrained: bool = False, *, cache_dir: str | Path | None = None, **kwargs: Any
) -> nn.Module:
    """Build a model by name, whoever else may have registered that name with timm.

    Args:
        name: "cvt_13", or with a tag "cvt_13.ms_in1k"; for other tasks a head and a backbone, "semantic_fpn_cmt_s",
            "upernet.timm/resnet50".
        pretrained: fetch, check, convert and load the published weights. A classifier for another number of classes begins
            anew, the first convolution is adapted to another number of channels, and position tables are resized to `img_size`.
        cache_dir: where converted weights are kept; by default $HYBRIDVIT_CACHE or ~/.cache/hybridvit.
        kwargs: see `hybridvit.models.catalog.create`.

    Raises: ConfigError for an unknown name, or arguments that the weights do not fit; DownloadError for weights that cannot be
        had.
    """
    if assembly.split(name):
        if pretrained:
            raise ConfigError(f"No weights are published for {name}. Train it with --init and a classifier's weights.")
        return assembly.create(name, **kwargs)
    bare, _, tag = name.partition(".")
    if not pretrained and not tag:
        return catalog.create(name, **kwargs)
    tagged = find_weights(name)
    cfg = pretrained_cfg_of(tagged)
    if not pretrained:
        return catalog.create(bare, pretrained_cfg=cfg, **{"img_size": WEIGHTS[tagged].preprocess.image_size, **kwargs})
    state, img_size = _read(download.download(tagged, cache_dir=cache_dir), kwargs.pop("img_size", None))
    kwargs |= {"img_size": img_size} if img_size else {}
    _refuse_other_tensors(tagged, state, kwargs)
    return catalog.create(bare, state=state, pretrained_cfg=cfg, **kwargs)


def _read(path: Path, img_size: int | tuple[int, int] | None) -> tuple[dict[str, Tensor], Any]:
    """The tensors of a checkpoint, with position tables for `img_size`, and that size; None where there are no tables."""
    try:
        found = read_checkpoint(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error} Delete it, and it will be fetched again.") from error
    native = found.model_args.get("img_size")
    if native is None or img_size is None or to_2tuple(img_size) == native:
        return found.state, img_size or native
    donor: Any = checkpoint.build(found, name=str(path))
    donor.set_input_size(img_size)
    return donor.state_dict(), img_size


def _refuse_other_tensors(tagged: str, state: dict[str, Tensor], kwargs: dict[str, Any]) -> None:
    """Fields of the config may change what is computed, but not what is stored.

    timm would leave such tensors at random without a word, as soon as the classifier is another one too.
    """
    bare = tagged.partition(".")[0]
    changed = sorted(kwargs.keys() & catalog.architecture(bare).config.__dataclass_fields__.keys())
    if not changed:
        return
    with torch.device("meta"):
        model = catalog.create(bare, **{key: kwargs[key] for key in (*changed, "img_size") if key in kwargs})
    wanted = {key: tensor.shape for key, tensor in model.state_dict().items()}
    if wanted != {key: tensor.shape for key, tensor in state.items()}:
        raise ConfigError(
            f"{tagged} was trained with other values of {', '.join(changed)}: its weights do not fit. Leave them out."
        )
