"""What a weights file may say of its model: sizes and switches by name, each within a range. Nothing else reaches a constructor.

A file comes from strangers. It names an architecture of ours and numbers; what is fetched, read or run is never its business.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import timm
from torch import nn

from hybridvit.config.preprocess import MAX_SIDE
from hybridvit.errors import ConfigError
from hybridvit.models import catalog
from hybridvit.models.cmt import stage_grids
from hybridvit.models.configs import CMTConfig, CvTConfig
from hybridvit.models.heads import assembly
from hybridvit.models.heads.features import TIMM
from hybridvit.models.heads.pyramid import BatchNormMode
from hybridvit.models.heads.style import STYLES
from hybridvit.models.position import key_grid

MAX_CLASSES = 1_000_000
MAX_PAIRS = 1 << 27
"""Of queries and keys in one stage: CMT's position bias has a number for each."""


class Rule(NamedTuple):
    expected: str
    holds: Callable[[Any], bool]


def whole(low: int, high: int) -> Rule:
    return Rule(f"a whole number from {low} to {high}", lambda value: type(value) is int and low <= value <= high)


def number(low: float, high: float) -> Rule:
    return Rule(f"a number from {low} to {high}", lambda value: type(value) in (int, float) and low <= value <= high)


def one_of(*values: Any) -> Rule:
    return Rule(
        f"one of {', '.join(map(repr, values))}",
        lambda value: any(type(value) is type(known) and value == known for known in values),
    )


def several(rule: Rule, most: int = 8) -> Rule:
    return Rule(
        f"up to {most} times {rule.expected}",
        lambda value: isinstance(value, list | tuple) and 0 < len(value) <= most and all(map(rule.holds, value)),
    )


def either(*rules: Rule) -> Rule:
    return Rule(" or ".join(rule.expected for rule in rules), lambda value: any(rule.holds(value) for rule in rules))


CLASSES = whole(0, MAX_CLASSES)
PIXELS = either(whole(1, MAX_SIDE), several(whole(1, MAX_SIDE), most=2), one_of(None))
SHARE = number(0, 1)
SIZES: dict[str, Rule] = {
    **{"in_chans": whole(1, 1024), "img_size": PIXELS, "global_pool": one_of("token", "avg", "max", "")},
    **dict.fromkeys(("drop_rate", "attn_drop_rate", "proj_drop_rate", "drop_path_rate", "head_dropout"), SHARE),
    **{"dims": several(whole(1, 8192)), "depths": several(whole(1, 100)), "heads": several(whole(1, 256))},
    **{"embed_kernels": several(whole(1, 31)), "embed_strides": several(whole(1, 16))},
    **{"embed_paddings": several(whole(0, 15)), "reductions": several(whole(1, 64))},
    **{"stem_width": whole(1, 8192), "head_width": whole(1, 65536)},
    **{"mlp_ratio": number(0.01, 64), "ffn_ratio": number(0.01, 64)},
    **{"embed_eps": number(0, 1), "block_eps": number(0, 1)},
}
"""Arguments with a range. Switches need none: their type says what they may be."""
HEAD_SIZES: dict[str, Rule] = {
    **{"style": one_of(*STYLES), "batchnorm": one_of(*get_args(BatchNormMode)), "head_norm": one_of(True, False)},
    **dict.fromkeys(("channels", "hidden", "pyramid_width", "width", "auxiliary_width"), whole(1, 8192)),
    **{"strides": several(whole(1, 1024)), "anchor_scale": number(0.01, 100), "head_drop_rate": SHARE},
    **{"head_convs": whole(1, 4), "mask_convs": whole(1, 16)},
}
"""Of models/heads: whatever a detector or segmenter may be told beside what its backbone may."""
COMMON = ("in_chans", "img_size", "global_pool", "drop_rate", "attn_drop_rate", "proj_drop_rate", "drop_path_rate")


def is_known(architecture: Any) -> bool:
    """Whether a file may name it: an architecture of the catalogue, or a head over one or over a plain name of timm's."""
    if not isinstance(architecture, str):
        return False
    try:
        parts = assembly.split(architecture)
    except ConfigError:
        return False
    backbone = parts[1] if parts else architecture
    if backbone.startswith(TIMM):  # which also reads "hf-hub:..." and folders
        plain = backbone.removeprefix(TIMM)
        return plain.replace("_", "").isalnum() and timm.is_model(plain)
    return backbone in catalog.ARCHITECTURES


def tasks_of(architecture: str) -> tuple[str, ...]:
    """What a known architecture is made for."""
    parts = assembly.split(architecture)
    return (assembly.HEADS[parts[0]].task,) if parts else ("classification", "multilabel")


def rules_of(architecture: str) -> dict[str, Rule]:
    """The arguments that a file may give for an architecture, and what each may be."""
    if parts := assembly.split(architecture):
        return HEAD_SIZES | (
            {name: SIZES[name] for name in COMMON} if parts[1].startswith(TIMM) else rules_of(parts[1])
        )
    family = type(catalog.architecture(architecture).config)
    names = [name for name in COMMON if family is CMTConfig or name != "proj_drop_rate"]
    return {name: SIZES[name] for name in names} | {
        name: SIZES.get(name) or _of_type(hint) for name, hint in get_type_hints(family).items()
    }


def _of_type(hint: Any) -> Rule:
    """A switch: true or false, or one of the values of a Literal."""
    if hint is bool:
        return one_of(True, False)
    if get_origin(hint) is Literal:
        return one_of(*get_args(hint))
    return either(*(one_of(None) if part is type(None) else _of_type(part) for part in get_args(hint)))


def checked(architecture: str, num_classes: Any, args: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as a file gives them, fit for `create`. Raises: ConfigError, which lists everything that is wrong."""
    rules = rules_of(architecture)
    wrong = [f"{name} is no argument of {architecture}" for name in args if name not in rules]
    values = {"num_classes": num_classes, **args}
    for name, rule in {"num_classes": CLASSES, **rules}.items():
        if name in values and not rule.holds(values[name]):
            wrong.append(f"{name} must be {rule.expected}, found {_shown(values[name])}")
    if wrong:
        raise ConfigError("; ".join(wrong))
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in args.items()}
    _refuse_contradictions(architecture, plain)
    return plain


def _refuse_contradictions(architecture: str, args: Mapping[str, Any]) -> None:
    """Sizes that are fine alone and no model together."""
    architecture = (assembly.split(architecture) or ("", architecture))[1]
    if architecture.startswith(TIMM):
        return
    published = catalog.architecture(architecture)
    own = {field.name: args[field.name] for field in fields(published.config) if field.name in args}
    config: CvTConfig | CMTConfig = replace(published.config, **own)
    stages = {name: len(value) for name, value in vars(config).items() if isinstance(value, tuple)}
    told = {number for name, number in stages.items() if name in own or not name.startswith("embed_")}
    if len(told) > 1 or min(stages.values()) < max(told):  # the first of longer ones are taken, as for fewer stages
        raise ConfigError(f"the numbers of stages differ: {', '.join(f'{n} has {k}' for n, k in stages.items())}")
    if any(dim % heads for dim, heads in zip(config.dims, config.heads, strict=True)):
        raise ConfigError(f"dims {config.dims} are no multiples of heads {config.heads}")
    if isinstance(config, CMTConfig):
        size = args.get("img_size") or published.preprocess.image_size
        for grid, reduction in zip(
            stage_grids(config, (size, size) if type(size) is int else size), config.reductions, strict=True
        ):
            keys = grid if config.position == "dense" else key_grid(grid, reduction)
            if math.prod(grid) * math.prod(keys) > MAX_PAIRS:
                raise ConfigError(
                    f"img_size {size} needs a position bias of {math.prod(grid)} x {math.prod(keys)} numbers"
                )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def build(architecture: str, *, num_classes: Any, args: Mapping[str, Any]) -> nn.Module:
    """The model that a file describes, with random weights.

    Raises: ConfigError for a name that the catalogue lacks, and for everything that a file may not say.
    """
    args = checked(architecture, num_classes, args)
    create = assembly.create if assembly.split(architecture) else catalog.create
    return create(architecture, num_classes=num_classes, **args)
