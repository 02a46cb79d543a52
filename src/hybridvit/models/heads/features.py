"""A backbone of the catalogue, or any of timm's, as maps of falling resolution."""

import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hybridvit.errors import ConfigError
from hybridvit.models import catalog

TIMM = "timm/"
FINEST_STRIDE = 4
"""Finer maps, which some of timm's models have, cost more than they help."""


class Features(nn.Module):
    """The last map of each resolution of a backbone, from stride 4 on.

    Strides are read from the model: CMT has 4, 8, 16, 32 and CvT 4, 8, 16. cvt_nano has 4, 4, 8: its second map is taken and
    its third.

    Shape: (B, in_chans, H, W) -> [(B, C, H / stride, W / stride), ...], finest first.

    Args:
        name: a name of the catalogue, or timm/NAME.
        kwargs: what `catalog.create`, or `timm.create_model`, takes.

    Raises: ConfigError for an unknown name or argument, or a model that has no such maps.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__()
        self.net = _of_timm(name.removeprefix(TIMM), kwargs) if name.startswith(TIMM) else _of_catalog(name, kwargs)
        found = self.net.feature_info.get_dicts()
        last = {info["reduction"]: i for i, info in enumerate(found) if info["reduction"] >= FINEST_STRIDE}
        if not last:
            raise ConfigError(f"{name} has no map of stride {FINEST_STRIDE} or more; choose another backbone.")
        self.strides, self.taken = tuple(last), tuple(last.values())
        self.channels = tuple(found[i]["num_chs"] for i in self.taken)
        self.channels_behind = str(getattr(self.net, "output_fmt", "NCHW")).endswith("NHWC")

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        maps: Sequence[Tensor] = self.net(x_BCHW)
        return [maps[i].permute(0, 3, 1, 2) if self.channels_behind else maps[i] for i in self.taken]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute blocks in backward instead of keeping their activations."""
        getattr(self.net, "model", self.net).set_grad_checkpointing(enable)

    def no_weight_decay(self) -> set[str]:
        """The backbone's own, under their names here."""
        model = getattr(self.net, "model", self.net)
        spared: set[str] = getattr(model, "no_weight_decay", set)()
        return {name for name, _ in self.named_parameters() if any(name.endswith(f".{each}") for each in spared)}

    def group_matcher(self, prefix: str, coarse: bool = False) -> dict[str, Any]:
        """Groups of parameters in order of depth, for layer-wise learning-rate decay; `prefix`: where this module is.

        Raises: ConfigError where the backbone's layers have no order that is known.
        """
        model: Any = getattr(self.net, "model", None)
        if not hasattr(model, "group_matcher"):
            raise ConfigError("This backbone's layers have no order that timm states: leave optimizer.layer_decay out.")

        def moved(pattern: str) -> str:
            return f"^{re.escape(prefix)}net\\.model\\.{pattern.removeprefix('^')}"

        return {
            group: moved(rule) if isinstance(rule, str) else [(moved(pattern), layer) for pattern, layer in rule]
            for group, rule in model.group_matcher(coarse).items()
        }


def _of_catalog(name: str, kwargs: dict[str, Any]) -> Any:
    return catalog.create(name, **kwargs, features_only=True)


def _of_timm(name: str, kwargs: dict[str, Any]) -> Any:
    import timm  # importing timm registers the catalogue, which by then must be complete

    if not timm.is_model(name):
        raise ConfigError(f"timm has no model {name!r}. timm.list_models() lists all.")
    kwargs = {key: value for key, value in kwargs.items() if value is not None}
    try:
        return timm.create_model(name, **kwargs, features_only=True)
    except (TypeError, RuntimeError, AttributeError) as error:
        raise ConfigError(f"{TIMM}{name} cannot be built as a backbone: {error}") from error
