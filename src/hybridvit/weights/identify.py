"""What a checkpoint is: its sets of weights, the implementation that wrote it, the architecture, the sizes.

A file is recognised by its tensors' names and shapes, never by its own name, and refused where that leaves a doubt.
"""

import argparse
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hybridvit.errors import CheckpointError, ConfigError
from hybridvit.models import arguments, catalog
from hybridvit.models.catalog import ARCHITECTURES
from hybridvit.models.cmt import stage_grids
from hybridvit.models.configs import CMTConfig
from hybridvit.weights import mapping
from hybridvit.weights.containers import StandIn
from hybridvit.weights.mapping import Shapes, Source
from hybridvit.weights.tables import SOURCES

RAW_NAMES = ("state_dict", "model", "model_state_dict", "module", "net", "network", "params", "weights")
EMA_NAMES = ("model_ema", "state_dict_ema", "ema", "ema_state_dict", "model_ema_state_dict", "ema_model")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
MAX_PREFIXES, MAX_TENSORS = 8, 20_000
MAX_STAGES, MAX_BLOCKS = 4, 64
SURE = 0.9  # share of a file's names that one source must know before its other tensors count as that source's errors

State = dict[str, Tensor]


# ---- what lies in a file ----------------------------------------------------------------------------------------------------


@dataclass
class Wrapped:
    """The sets of weights in a file ("raw", "ema"), and what lay beside them."""

    sets: dict[str, State]
    beside: dict[str, str]
    """Name -> what it is."""
    architecture: str | None = None
    """As the file itself names it: timm's checkpoints do."""


def unwrap(tree: Mapping[str, Any]) -> Wrapped:
    """Find the state dicts. `model` may be a string (microsoft), `model_ema` None (huawei)."""
    sets: dict[str, State] = {}
    used: set[str] = set()
    for kind, names in (("raw", RAW_NAMES), ("ema", EMA_NAMES)):
        found = {name: state for name in names if (state := _tensors_of(tree.get(name)))}
        if len(found) > 1:
            raise CheckpointError(f"holds several sets of weights, {' and '.join(found)}: save the one you mean alone")
        for name, state in found.items():
            sets[kind] = state
            used.add(name)
    if not sets and (flat := _tensors_of(tree)):
        sets, used = {"raw": flat}, set(flat)
    beside = {str(name): _describe(value) for name, value in tree.items() if name not in used}
    arch = tree.get("arch")
    return Wrapped(sets, beside, arch if isinstance(arch, str) else None)


def _tensors_of(value: Any) -> State:
    """The tensors by name that make up most of a dictionary; none of anything else."""
    if not isinstance(value, Mapping):
        return {}
    found = {key: item for key, item in value.items() if isinstance(key, str) and isinstance(item, Tensor)}
    return found if len(found) > len(value) / 2 else {}


def _describe(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, str | float) or (isinstance(value, int) and value.bit_length() < 100):
        return f"{type(value).__name__} {str(value)[:40]}"
    if isinstance(value, Tensor):
        return f"tensor {tuple(value.shape)}"
    if isinstance(value, argparse.Namespace):
        return f"options, {len(vars(value))} of them"
    if isinstance(value, StandIn):
        return f"a {value.asked}, left unbuilt"
    return f"{type(value).__name__} of {len(value)}" if hasattr(value, "__len__") else type(value).__name__


def strip_prefixes(state: State) -> tuple[str, State]:
    """Take off what wrappers put before every name (DataParallel, torch.compile, a detector's backbone)."""
    removed = ""
    for _ in range(MAX_PREFIXES):
        names = [key for key in state if not mapping.is_leftover(key)]
        prefix = next((p for p in PREFIXES if names and all(key.startswith(p) for key in names)), None)
        if prefix is None:
            break
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
        removed += prefix
    return removed, state


# ---- what it is -------------------------------------------------------------------------------------------------------------


def detect(keys: Sequence[str]) -> Source:
    """The source whose table knows the names.

    Raises: CheckpointError, without the file's name, when none or several do; it lists the three nearest and what speaks
        against each.
    """
    unknown = {
        name: [key for key in keys if not source.knows(source.canonical(key))] for name, source in SOURCES.items()
    }
    order = sorted(unknown, key=lambda name: len(unknown[name]))
    best, second = order[0], order[1]
    share = 1 - len(unknown[best]) / max(len(keys), 1)
    if share >= SURE and len(unknown[best]) < len(unknown[second]):
        return SOURCES[best]
    lines = []
    for name in order[:3]:
        strange = unknown[name]
        against = "knows every name, but so do others"
        if strange:
            against = f"unknown to it: {', '.join(strange[:3])}{' ...' if len(strange) > 3 else ''}"
        lines.append(f"  {name:<14} knows {len(keys) - len(strange)} of {len(keys)} names; {against}")
    raise CheckpointError("\n".join(["is of no source that can be told for certain. Nearest:", *lines]))


@dataclass
class Identified:
    """One set of weights, and the model it belongs to."""

    source: Source
    dialect: str
    prefix: str
    state: State
    """By the source's canonical names."""
    architecture: str
    num_classes: int
    model_args: dict[str, Any]
    model: Any
    """On the meta device."""


def identify(
    state: State,
    *,
    architecture: str | None = None,
    arithmetic: str | None = None,
    image_size: tuple[int, int] | None = None,
) -> Identified:
    """Source, architecture and sizes of a state dict, from its names and shapes.

    Raises: CheckpointError, without the file's name.
    """
    if not 0 < len(state) <= MAX_TENSORS:
        raise CheckpointError(
            f"holds {len(state):,} tensors, more than any model here" if state else "holds no weights"
        )
    prefix, state = strip_prefixes(state)
    source = detect(list(state))
    dialect = source.dialect(list(state))
    spellings = Counter(source.canonical(key) for key in state)
    twice = [key for key, count in spellings.items() if count > 1]
    if twice:
        raise CheckpointError(f"holds {twice[0]} in two spellings; which is meant?")
    state = {source.canonical(key): tensor for key, tensor in state.items()}
    shapes = mapping.shapes_of(state)
    ending, model_args = source.variant(shapes)
    if arithmetic == "authors" and ending:
        if "" not in source.suffixes:
            raise CheckpointError(
                f"comes from {source.title}, whose weights were trained with its own arithmetic, not the authors'"
            )
        ending = ""
    if source.name.startswith("hybridvit"):
        name = _named_by_caller(source, shapes, architecture)
    else:
        name = _by_size(source, shapes, ending)
    config = ARCHITECTURES[name].config
    is_cmt = isinstance(config, CMTConfig)
    classifier = "head.fc" if is_cmt else "head"
    head = source.shape_of(f"{classifier}.weight", shapes) or source.shape_of(f"{classifier}.bias", shapes)
    stem = source.shape_of("stem.0.conv.weight" if is_cmt else "stages.0.embed.conv.weight", shapes)
    model_args["in_chans"] = stem[1] if stem and len(stem) == 4 else 3
    if isinstance(config, CMTConfig):
        native = _native_size(source, shapes, replace(config, **_fields(model_args)), image_size)
        model_args["img_size"] = native or ARCHITECTURES[name].preprocess.image_size
    num_classes = head[0] if head else 0
    try:
        model_args = arguments.checked(name, num_classes, model_args)
        with torch.device("meta"):
            model = catalog.create(name, num_classes=num_classes, **model_args)
    except (ConfigError, RuntimeError) as error:
        raise CheckpointError(f"looks like {name}, but no such model can be built: {error}") from error
    return Identified(source, dialect, prefix, state, name, num_classes, model_args, model)


def _fields(model_args: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in model_args.items() if key in CMTConfig.__dataclass_fields__}


def ending_of(architecture: str) -> str:
    """What an architecture's arithmetic adds to the size's name: "" for the authors'."""
    endings = {ending for source in SOURCES.values() for ending in source.suffixes}
    return max((ending for ending in endings if architecture.endswith(ending)), key=len)


def _sizes(source: Source, shapes: Shapes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Widths and depths of the stages, also where single tensors are missing."""
    dims: list[int] = []
    depths: list[int] = []
    for stage in range(MAX_STAGES):
        names = ("embed.conv.weight", "embed.conv.bias", "blocks.0.norm1.weight")
        found = [shape for name in names if (shape := source.shape_of(f"stages.{stage}.{name}", shapes))]
        if not found:
            break
        blocks = (source.shape_of(f"stages.{stage}.blocks.{j}.norm1.weight", shapes) for j in range(MAX_BLOCKS))
        dims.append(found[0][0])
        depths.append(max((j + 1 for j, shape in enumerate(blocks) if shape), default=0))
    return tuple(dims), tuple(depths)


def _by_size(source: Source, shapes: Shapes, ending: str) -> str:
    dims, depths = _sizes(source, shapes)
    names = [n for n in ARCHITECTURES if n.startswith(source.family) and ending_of(n) == ending]
    exact = [n for n in names if (ARCHITECTURES[n].config.dims, ARCHITECTURES[n].config.depths) == (dims, depths)]
    if len(exact) == 1:
        return exact[0]

    def distance(name: str) -> float:
        config = ARCHITECTURES[name].config
        pairs = zip((*dims, *depths), (*config.dims, *config.depths), strict=False)
        return sum(abs(math.log((a + 1) / (b + 1))) for a, b in pairs) + 10 * abs(len(dims) - len(config.dims))

    nearest = min(names, key=distance)
    config = ARCHITECTURES[nearest].config
    raise CheckpointError(
        f"comes from {source.title}, but is of no size in the catalogue: widths {dims}, depths {depths}. "
        f"Nearest: {nearest} with widths {config.dims}, depths {config.depths}"
    )


def _named_by_caller(source: Source, shapes: Shapes, architecture: str | None) -> str:
    """Our own names fit every arithmetic of a size, so the size alone does not decide."""
    dims, depths = _sizes(source, shapes)
    same = [
        name
        for name, entry in ARCHITECTURES.items()
        if name.startswith(source.family) and (entry.config.dims, entry.config.depths) == (dims, depths)
    ]
    bare = (architecture or "").partition(".")[0]
    if bare in ARCHITECTURES:
        return bare
    if len(same) == 1:
        return same[0]
    said = f"It calls itself {architecture!r}, which is no name of the catalogue. " if architecture else ""
    raise CheckpointError(
        f"has hybridvit's own names, which do not tell the arithmetic. {said}"
        f"Say which with --architecture: {', '.join(same) or 'none of the catalogue has these sizes'}"
    )


def _native_size(
    source: Source, shapes: Shapes, config: CMTConfig, hint: tuple[int, int] | None
) -> tuple[int, int] | None:
    """The picture size that the position tables are for; None where there are no tables.

    The tables say how many places the first grid has. It is taken for square unless `hint` has just that many.
    """
    table = source.shape_of("stages.0.blocks.0.attn.position.table", shapes)
    shared = source.shape_of("stages.0.position.table", shapes)
    absolute = source.shape_of("stages.0.absolute_position", shapes)
    if shared or absolute:
        places = (shared or absolute or ())[1]
    elif table and config.position == "dense":
        places = table[0]
    elif table:
        span = table[0] if config.position == "offsets" else math.isqrt(table[-1])
        places = ((span + 1) // 2) ** 2
    else:
        return None
    side = math.isqrt(places)
    if hint and _places(config, hint) == places:
        return hint
    if side * side != places:
        raise CheckpointError(
            f"has position tables for {places} places, which is no square. Name the size they are for: --image-size H W"
        )
    return 4 * side, 4 * side


def _places(config: CMTConfig, size: tuple[int, int]) -> int:
    """Queries of the first stage for a picture of `size`."""
    try:
        return math.prod(stage_grids(config, size)[0])
    except ConfigError:
        return 0
