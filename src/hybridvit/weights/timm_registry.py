"""Give every name of the catalogue to timm. Called when timm has just been imported, so it is imported only where it is used."""

import sys
from types import ModuleType
from typing import Any

from torch import nn

from hybridvit.models import catalog
from hybridvit.models.catalog import ARCHITECTURES
from hybridvit.weights.published import WEIGHTS, pretrained_cfg_of


def register(timm: ModuleType) -> None:
    """Make `timm.create_model`, `timm.list_models` and the rest know our names. A name that timm already has stays timm's."""
    from timm.models import generate_default_cfgs, register_model

    names = [name for name in ARCHITECTURES if not timm.is_model(name)]
    tags: dict[str, Any] = {name: pretrained_cfg_of(name) for name in WEIGHTS if name.partition(".")[0] in names}
    untagged = {
        name: catalog.pretrained_cfg_of(name) for name in names if not any(tag.startswith(name + ".") for tag in tags)
    }
    module = sys.modules[__name__]
    module.default_cfgs = generate_default_cfgs(tags | untagged)  # type: ignore[attr-defined]  # where timm looks for them
    for name in names:
        register_model(_entrypoint(name))


def _entrypoint(name: str) -> Any:
    def build(
        pretrained: bool = False,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> nn.Module:
        from hybridvit.weights.pretrained import create_model

        if isinstance(pretrained_cfg, str | None) and not pretrained_cfg_overlay:
            return create_model(f"{name}.{pretrained_cfg}" if pretrained_cfg else name, pretrained, **kwargs)
        # A source of the caller's own, in timm's format: a folder, a hub repository, a file.
        cfg = pretrained_cfg_of(f"{name}.{pretrained_cfg}") if isinstance(pretrained_cfg, str) else pretrained_cfg
        overlay = pretrained_cfg_overlay
        return catalog.create(name, pretrained=pretrained, pretrained_cfg=cfg, pretrained_cfg_overlay=overlay, **kwargs)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"{name}: see `hybridvit models`."
    return build
