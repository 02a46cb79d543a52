"""Tables of names: how the tensors of a published implementation become ours, and ours theirs again.

A table is a tuple of rows (our module, their module, kind). A module's name may hold fields: {i} a stage, {j} a block, both
counted from 0 in our names; {i+1}, {j+1}, {i:letter} are the same numbers in other spellings; {x} is q, k or v, {x:word}
query, key or value. A kind says what tensors such a module has, how they are called in both worlds, and the operation
between them. Operations rename, reshape, transpose, split or join; none computes. Read forwards a table imports, backwards
it exports, and it carries gradients likewise.
"""

import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from hybridvit.errors import CheckpointError

Values = dict[str, Any]
Shapes = Mapping[str, tuple[int, ...]]


# ---- operations -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """`forward` makes our tensor of theirs, `backward` theirs of ours. `heads` is the stage's number of attention heads."""

    name: str
    forward: Callable[[Sequence[Tensor], int], Tensor]
    backward: Callable[[Tensor, int], tuple[Tensor, ...]]


def _permute(name: str, to_ours: tuple[int, ...]) -> Operation:
    to_theirs = tuple(to_ours.index(axis) for axis in range(len(to_ours)))
    return Operation(name, lambda t, _: t[0].permute(to_ours), lambda t, _: (t.permute(to_theirs),))


def _pack_kv(kv: Tensor, heads: int) -> Tensor:
    """Rows (k or v, head, channel) to rows (channel, head, k or v)."""
    return kv.unflatten(0, (2, heads, -1)).transpose(0, 2).flatten(0, 2)


def _unpack_kv(packed: Tensor, heads: int) -> Tensor:
    return packed.unflatten(0, (-1, heads, 2)).transpose(0, 2).flatten(0, 2)


SAME = Operation("rename", lambda t, _: t[0], lambda t, _: (t,))
TRANSPOSE = _permute("transpose", (1, 0))  # linear (in, out)
HWIO = _permute("transpose", (3, 2, 0, 1))  # convolution (h, w, in, out)
HWCM = _permute("transpose", (2, 3, 0, 1))  # depthwise convolution (h, w, channels, 1)
# A 1x1 convolution (1, 1, in, out) that is a linear layer here.
POINTWISE = Operation("reshape", lambda t, _: t[0].flatten(0, 2).t(), lambda t, _: (t.t()[None, None],))
JOIN = Operation("join", lambda t, _: torch.cat(tuple(t)), lambda t, _: t.chunk(2))
PACKED_KV = Operation("reshape", lambda t, heads: _unpack_kv(t[0], heads), lambda t, heads: (_pack_kv(t, heads),))


# ---- kinds ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Leaf:
    """One tensor of a module. theirs: its name there, or None where they have no such tensor, which is then zero here."""

    theirs: str | None
    operation: Operation = SAME
    may_lack: bool = False


Kind = Mapping[str, Leaf]

COUNTER = {"num_batches_tracked": Leaf("num_batches_tracked", may_lack=True)}
NO_COUNTER = {"num_batches_tracked": Leaf(None)}

TENSOR: Kind = {"": Leaf("")}
LAYER: Kind = {"weight": Leaf("weight"), "bias": Leaf("bias")}
BATCHNORM: Kind = {**LAYER, "running_mean": Leaf("running_mean"), "running_var": Leaf("running_var"), **COUNTER}
JOINED: Kind = {"weight": Leaf("weight", JOIN), "bias": Leaf("bias", JOIN)}
PACKED: Kind = {"weight": Leaf("weight", PACKED_KV), "bias": Leaf("bias", PACKED_KV)}

Row = tuple[str, str | tuple[str, ...], Kind]


# ---- names with fields ------------------------------------------------------------------------------------------------------

_WORDS = {"q": "query", "k": "key", "v": "value"}


@dataclass(frozen=True)
class _Field:
    name: str
    regex: str
    read: Callable[[str], Any]
    write: Callable[[Any], str]


_FIELDS = {
    "i": _Field("i", r"\d+", int, str),
    "j": _Field("j", r"\d+", int, str),
    "i+1": _Field("i", r"[1-9]\d*", lambda text: int(text) - 1, lambda value: str(value + 1)),
    "j+1": _Field("j", r"[1-9]\d*", lambda text: int(text) - 1, lambda value: str(value + 1)),
    "i:letter": _Field("i", "[a-d]", "abcd".index, "abcd".__getitem__),
    "x": _Field("x", "[qkv]", str, str),
    "x:word": _Field("x", "query|key|value", {word: x for x, word in _WORDS.items()}.__getitem__, _WORDS.__getitem__),
}


class Pattern:
    """A name with fields: read values out of a name, or write a name from values."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = re.split(r"\{([^}]+)\}", text)
        self.fields = [_FIELDS[part] for part in self._parts[1::2]]
        parts = [f"({_FIELDS[part].regex})" if n % 2 else re.escape(part) for n, part in enumerate(self._parts)]
        self.regex = "".join(parts)

    def match(self, name: str) -> Values | None:
        found = re.fullmatch(self.regex, name)
        if not found:
            return None
        return {field.name: field.read(text) for field, text in zip(self.fields, found.groups(), strict=True)}

    def format(self, values: Values) -> str:
        return "".join(
            _FIELDS[part].write(values[_FIELDS[part].name]) if n % 2 else part for n, part in enumerate(self._parts)
        )


def _joined(module: str, leaf: str) -> str:
    return f"{module}.{leaf}" if leaf else module


# ---- sources ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """One row's one tensor."""

    ours: Pattern
    theirs: tuple[Pattern, ...]
    leaf: Leaf


@dataclass(frozen=True)
class Source:
    """A published implementation: its table, and what cannot be said by a table."""

    name: str
    title: str
    family: str
    """cvt or cmt."""
    format: str
    """The container it writes: one of containers.FORMATS."""
    table: tuple[Row, ...]
    layout: str | None = None
    """The key its own scripts look for in a PyTorch file; None for a flat state dict."""
    suffixes: tuple[str, ...] = ("",)
    """Endings of the architectures whose weights it stores, its own arithmetic first: "" is the authors'."""
    options: tuple[str, ...] = ()
    """Fields of the architecture's configuration that `variant` can tell from the tensors."""
    variant: Callable[[Shapes], tuple[str, dict[str, Any]]] = field(default=lambda shapes: ("", {}))
    """The ending and the further config fields of the architecture, from the shapes of a file's tensors."""
    canonical: Callable[[str], str] = field(default=lambda key: key)
    """A key as the table spells it; some sources have several spellings."""
    dialect: Callable[[Sequence[str]], str] = field(default=lambda keys: "")
    """The name of the spelling that a file's keys use."""
    spell: Callable[[str, str], str] = field(default=lambda key, dialect: key)
    """(the table's key, dialect) -> the key in the file."""

    @cached_property
    def rules(self) -> list[Rule]:
        rules = []
        for ours, theirs, kind in self.table:
            modules = (theirs,) if isinstance(theirs, str) else theirs
            for name, leaf in kind.items():
                names = (
                    () if leaf.theirs is None else tuple(Pattern(_joined(module, leaf.theirs)) for module in modules)
                )
                rules.append(Rule(Pattern(_joined(ours, name)), names, leaf))
        return rules

    @cached_property
    def _finder(self) -> re.Pattern[str]:
        """All rules at once; the name of the group that matched is the rule's number."""
        return re.compile("|".join(f"(?P<rule{n}>{rule.ours.regex})" for n, rule in enumerate(self.rules)))

    @cached_property
    def _known(self) -> re.Pattern[str]:
        return re.compile("|".join(pattern.regex for rule in self.rules for pattern in rule.theirs))

    def find(self, ours: str) -> tuple[Rule, tuple[str, ...], Values] | None:
        """The rule for our tensor, what theirs are called, and the fields."""
        found = self._finder.fullmatch(ours)
        if not found:
            return None
        rule = self.rules[int(str(found.lastgroup).removeprefix("rule"))]
        values = rule.ours.match(ours) or {}
        return rule, tuple(pattern.format(values) for pattern in rule.theirs), values

    def knows(self, theirs: str) -> bool:
        """Whether the table has a place for this key of a file."""
        return self._known.fullmatch(theirs) is not None or is_leftover(theirs)

    def shape_of(self, ours: str, shapes: Shapes) -> tuple[int, ...] | None:
        """The shape our tensor would have, read off theirs; None when the file lacks it."""
        found = self.find(ours)
        if found is None or not found[1] or any(key not in shapes for key in found[1]):
            return None
        theirs = [torch.empty(shapes[key], device="meta") for key in found[1]]
        try:
            return tuple(found[0].leaf.operation.forward(theirs, 1).shape)
        except (RuntimeError, IndexError):
            return None


def is_leftover(key: str) -> bool:
    """Left in state dicts by tools, and dropped: FLOP counters (thop), weight averaging (torch.optim.swa_utils)."""
    return key == "n_averaged" or key.endswith(("total_ops", "total_params"))


# ---- running a table --------------------------------------------------------------------------------------------------------


@dataclass
class Mapped:
    """Our tensors, and everything that did not go one to one."""

    state: dict[str, Tensor] = field(default_factory=dict)
    filled: list[str] = field(default_factory=list)
    """Ours that the source does not have; zero."""
    missing: list[str] = field(default_factory=list)
    """Theirs that the model needs and the file lacks."""
    wrong: list[tuple[str, str, str]] = field(default_factory=list)
    """(their key, what it is in the file, what the model needs)."""
    absent: list[str] = field(default_factory=list)
    """Patterns of theirs that other files of the source hold and this one does not; zero in ours."""


def to_ours(
    source: Source,
    theirs: MutableMapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    heads: Sequence[int],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Mapped:
    """Translate a state dict. What is used is taken out of `theirs`, so that memory is freed on the way; the rest stays.

    wanted: our keys with tensors of the right shape and type, which may be on the meta device. progress: called with (done, all).
    Each operation is undone at once and compared bit by bit: nothing is lost on the way.
    """
    mapped = Mapped()
    held: set[str] = set()
    for done, (key, example) in enumerate(wanted.items()):
        progress(done, len(wanted))
        rule, names, values = _rule(source, key)
        lacking = [name for name in names if name not in theirs]
        if not names or (lacking and rule.leaf.may_lack):
            mapped.state[key] = torch.zeros(example.shape, dtype=example.dtype, device="cpu")
            mapped.filled.append(key)
            mapped.absent += [pattern.text for pattern in rule.theirs if pattern.text not in mapped.absent]
            continue
        held |= {pattern.text for pattern in rule.theirs}
        if lacking:
            mapped.missing += lacking
            continue
        operation, stage_heads = rule.leaf.operation, _heads(values, heads)
        expected = operation.backward(example.to("meta"), stage_heads)
        tensors = [theirs.pop(name) for name in names]
        is_float = example.is_floating_point()
        wrong = [
            (name, _described(tensor, is_float), _described(model, is_float))
            for name, tensor, model in zip(names, tensors, expected, strict=True)
            if tensor.shape != model.shape or tensor.is_floating_point() != is_float
        ]
        if wrong:
            mapped.wrong += wrong
            continue
        ours = operation.forward(tensors, stage_heads).contiguous()
        undone = operation.backward(ours, stage_heads)
        if not all(_same_bits(a, b) for a, b in zip(tensors, undone, strict=True)):
            raise CheckpointError(f"{source.name}: {key} would lose something on its way")
        mapped.state[key] = ours.to(example.dtype)
    progress(len(wanted), len(wanted))
    mapped.absent = [text for text in mapped.absent if text not in held]
    return mapped


def _described(tensor: Tensor, is_float: bool) -> str:
    """Shape, and type where it is of the wrong kind."""
    kind = "" if tensor.is_floating_point() == is_float else f" of {str(tensor.dtype).removeprefix('torch.')}"
    return f"{tuple(tensor.shape)}{kind}"


def to_theirs(source: Source, ours: Mapping[str, Tensor], heads: Sequence[int]) -> dict[str, Tensor]:
    """Translate back, a state dict or a dictionary of gradients. Tensors that the source does not have are left out.

    Raises: KeyError when the table has no place for one of our tensors: the source cannot express this model.
    """
    theirs: dict[str, Tensor] = {}
    for key, tensor in ours.items():
        rule, names, values = _rule(source, key)
        if names:
            theirs.update(zip(names, rule.leaf.operation.backward(tensor, _heads(values, heads)), strict=True))
    return theirs


def _rule(source: Source, key: str) -> tuple[Rule, tuple[str, ...], Values]:
    found = source.find(key)
    if found is None:
        raise KeyError(key)
    return found


def _heads(values: Values, heads: Sequence[int]) -> int:
    return heads[values["i"]] if "i" in values else 1


def _same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal, NaN included."""
    return a.shape == b.shape and bool(torch.equal(a, b) or torch.allclose(a, b, rtol=0, atol=0, equal_nan=True))


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in state.items()}
