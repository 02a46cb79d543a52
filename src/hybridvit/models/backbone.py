"""What timm asks of a model made of stages, written once for both families."""

from collections.abc import Iterator
from typing import Any

from timm.layers import trunc_normal_
from torch import Tensor, nn

from hybridvit.errors import ConfigError
from hybridvit.kernels.features import feature_take_indices
from hybridvit.kernels.state import in_channels_last, overwrites


class Backbone(nn.Module):
    """A model of `stages`, with a head that turns their last features into logits.

    A family provides `stages`, `feature_info`, `classifier`, `forward_stages`, `forward_head` and `prune_head`; where its last
    map has a norm of its own, `norm_map`.
    """

    classifier: str
    """The name of the last linear layer."""

    architecture: str
    """Its name in the catalogue."""
    _model_args: dict[str, Any]
    """What the model was built with, where timm's own factory keeps it: `save_for_hf` writes it."""
    pretrained_cfg: dict[str, Any]
    """timm's record: preprocessing, and which layers depend on the data."""
    num_classes: int
    label_names: list[str] | None = None
    """Class names in the order of the logits, where the model comes from a file that has them."""
    in_chans: int
    num_features: int
    head_hidden_size: int
    """What the classifier reads."""
    pools: tuple[str, ...]
    """What `global_pool` can be."""
    head_needs_pool = False
    """Whether the head is passed by with global_pool="". Its parameters then ask for no gradient, as they would get none."""
    is_pruned = False
    """Whether only the features are left, as with `features_only=True`."""
    stages: nn.ModuleList
    feature_info: list[dict[str, Any]]
    """Per stage: num_chs (channels), reduction (stride to the picture), module (its name)."""

    @property
    def global_pool(self) -> str:
        return self._global_pool

    @global_pool.setter
    def global_pool(self, pool: str) -> None:
        if pool not in self.pools:
            known = ", ".join(map(repr, self.pools))
            raise ConfigError(f"{type(self).__name__} has no global_pool={pool!r}. There are: {known}.")
        if self.head_needs_pool and hasattr(self, "head") and bool(pool) != bool(self.global_pool):
            self.head.requires_grad_(bool(pool))
        self._global_pool = pool

    def forward_stages(self, x_BCHW: Tensor, num_stages: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Run the stages; yield each one's features, in the family's own form, and the same as a map (B, C, H, W)."""
        raise NotImplementedError

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        raise NotImplementedError

    def norm_map(self, map_BCHW: Tensor) -> Tensor:
        return map_BCHW

    @overwrites
    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x_BCHW))

    @overwrites
    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        """The last stage's features, as `forward_head` takes them."""
        *_, (features, _) = self.forward_stages(in_channels_last(x_BCHW))
        return features

    @overwrites
    def forward_intermediates(
        self,
        x_BCHW: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The map of each of `indices` (a number: that many from the end; None: all).

        Shape: (B, in_chans, H, W) -> [(B, C, H / reduction, W / reduction), ...]; unless `intermediates_only`, the last features
        before that. `norm`: the final norm on the last stage's map. `stop_early`: compute no stage behind the last index.
        """
        if output_fmt != "NCHW":
            raise ConfigError(f"output_fmt={output_fmt!r}: the intermediates are maps; only 'NCHW' is offered.")
        take, last = feature_take_indices(len(self.stages), indices)
        outputs = list(self.forward_stages(in_channels_last(x_BCHW), last + 1 if stop_early else None))
        maps = [map_BCHW for stage, (_, map_BCHW) in enumerate(outputs) if stage in take]
        if norm and len(self.feature_info) - 1 in take:
            maps[-1] = self.norm_map(maps[-1])
        return maps if intermediates_only else (outputs[-1][0], maps)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages behind the last of `indices`, and the head: what `features_only=True` does.

        No parameter is left that the maps do not depend on: DistributedDataParallel would wait for its gradient.
        """
        take, last = feature_take_indices(len(self.stages), indices)
        self.stages = self.stages[: last + 1]
        if prune_head:
            self.prune_head(prune_norm=prune_norm or len(self.stages) < len(self.feature_info))
            self.num_classes, self.global_pool, self.is_pruned = 0, "", True
        return take

    def prune_head(self, *, prune_norm: bool) -> None:
        """Drop what stands behind the stages, except the norm of the last map unless `prune_norm`."""
        raise NotImplementedError

    def get_classifier(self) -> nn.Module:
        return nn.Identity() if self.is_pruned else self.get_submodule(self.classifier)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new classifier, initialised as both papers' code does; 0 classes for features.

        Raises: ConfigError where the head was pruned.
        """
        if self.is_pruned:
            raise ConfigError("This model was pruned to its features, and has no head: build it without features_only.")
        self.global_pool = self.global_pool if global_pool is None else global_pool
        self.num_classes, self.label_names = num_classes, None
        new: nn.Module = nn.Identity()
        if num_classes:
            new = nn.Linear(self.head_hidden_size, num_classes).to(next(self.parameters()))
            trunc_normal_(new.weight, std=0.02)
            nn.init.zeros_(new.bias)
        new.requires_grad_(bool(self.global_pool) or not self.head_needs_pool)
        self.set_submodule(self.classifier, new)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in backward instead of keeping its activations."""
        for stage in self.stages:
            stage.grad_checkpointing = enable  # type: ignore[assignment]
