"""What the names in a pickle become: functions of ours for what weights need, stand-ins for the rest. Nothing is imported."""

import argparse
import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hybridvit.errors import CheckpointError

MAX_DIMS = 32


class RefusedError(CheckpointError):
    """A pickle asked for a name that it may not have. `asked` is that name."""

    def __init__(self, asked: str) -> None:
        super().__init__(asked)
        self.asked = asked


class DamagedError(CheckpointError):
    """A file that no program of its kind writes: cut short, altered, or built to do harm."""


@dataclass(frozen=True, eq=False, slots=True)
class Name:
    """A name that a pickle asked for, and what is done where the pickle calls it."""

    asked: str
    call: Callable[..., Any]


class StandIn:
    """An object that is not built: what it was called with, and what it was filled with."""

    __slots__ = ("args", "asked", "items", "members", "state")

    def __init__(self, asked: str, args: tuple[Any, ...] = ()) -> None:
        self.asked, self.args = asked, args
        self.state: Any = None
        self.items: dict[Any, Any] = {}
        self.members: list[Any] = []

    def restore(self, state: Any) -> None:
        self.state = state


class Options(argparse.Namespace):
    """argparse.Namespace, as data."""

    def restore(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update((key, value) for key, value in state.items() if isinstance(key, str))


class Dtype:
    """numpy.dtype. `dtype` is the real one where it is of numbers: arrays of anything else stay unread."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        self.dtype = np.dtype(code) if code in _NUMPY_CODES else None

    def restore(self, state: Any) -> None:
        """numpy's (version, byte order, ...)."""
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise DamagedError("holds a damaged numpy.dtype")
        self.dtype = self.dtype and self.dtype.newbyteorder(order)


class Array:
    """numpy.ndarray, filled in two steps as numpy's own __reduce__ writes it. `tensor` shares the pickle's bytes."""

    tensor: torch.Tensor | None = None

    def restore(self, state: Any) -> None:
        """numpy's (version, shape, dtype, is_fortran, bytes)."""
        try:
            _, shape, dtype, is_fortran, raw = state
            if isinstance(dtype, Dtype) and dtype.dtype is None:
                return
            fits = isinstance(dtype, Dtype) and isinstance(raw, bytearray)
            fits = fits and num_elements(shape) * dtype.dtype.itemsize == len(raw)
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise DamagedError("holds an array whose shape, type and bytes contradict each other")
        array = np.frombuffer(raw, dtype.dtype) if raw else np.empty(0, dtype.dtype)
        array = array.astype(dtype.dtype.newbyteorder("="), copy=False)
        self.tensor = torch.from_numpy(array.reshape(shape, order="F" if is_fortran else "C"))


def num_elements(shape: Any) -> int:
    """The product of a shape that may be no shape. Raises: DamagedError."""
    if not isinstance(shape, tuple | list) or len(shape) > MAX_DIMS or not all(is_count(n) for n in shape):
        raise DamagedError("holds an array of impossible shape")
    return math.prod(shape)


def is_count(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 1 << 62


_NUMPY_CODES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "b1")


def _encode(text: Any, encoding: Any = None, *_: Any) -> bytearray:
    """Bytes, as protocols before 3 spell them."""
    if not isinstance(text, str) or encoding != "latin1":
        raise DamagedError("spells bytes in an unknown way")
    return bytearray(text, "latin-1")


def _pairs(target: dict[Any, Any], pairs: Any = ()) -> dict[Any, Any]:
    pairs = list(pairs.items()) if isinstance(pairs, dict) else pairs
    if not isinstance(pairs, list | tuple) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
        raise DamagedError("builds a dictionary of something else than pairs")
    put(target, [item for pair in pairs for item in pair])
    return target


def put(target: dict[Any, Any], items: list[Any]) -> None:
    """Keys and values by turns. Only scalars as keys: hashing a deep tuple that shares its parts takes exponential time."""
    target.update(zip(scalars(items[::2]), items[1::2], strict=True))


def scalars(items: Iterable[Any]) -> list[Any]:
    items = list(items)
    if not all(
        isinstance(item, str | float | None) or (isinstance(item, int) and abs(item) < 1 << 64) for item in items
    ):
        raise DamagedError("hashes something that is neither text nor a number")
    return items


def _reconstruct(kind: Any, *_: Any) -> Any:
    """An object of protocols before 2, which is filled afterwards."""
    if not isinstance(kind, Name):
        raise DamagedError("builds an object of no class")
    return kind.call()


NAMES: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": Array,
    "numpy.dtype": Dtype,
    # numpy 2 spells its own modules with an underscore.
    **dict.fromkeys(("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"), lambda *_: Array()),
    "collections.OrderedDict": lambda *args: _pairs(OrderedDict(), *args),
    "collections.defaultdict": lambda factory=None, *args: _pairs({}, *args),
    "builtins.dict": lambda *args: _pairs({}, *args),
    "builtins.tuple": lambda items=(): tuple(items) if isinstance(items, list | tuple) else (),
    "builtins.list": lambda items=(): list(items) if isinstance(items, list | tuple) else [],
    "builtins.set": lambda items=(): set(scalars(items)),
    "builtins.frozenset": lambda items=(): frozenset(scalars(items)),
    "_codecs.encode": _encode,
    "argparse.Namespace": Options,
    "copyreg._reconstructor": _reconstruct,
}
"""Every function that a pickle can call. They are ours, and copy at most what they are given."""
_PLAIN_BUILTINS = ("bool", "bytearray", "bytes", "complex", "float", "int", "object", "range", "slice", "str", "type")
_PLAIN_MODULES = (
    *("argparse", "collections", "dataclasses", "datetime", "decimal", "enum", "fractions", "logging"),
    *("pathlib", "pathlib._local", "random", "typing", "uuid"),
)
_PLAIN_NAMES = ("functools.partial", "re._compile", "types.SimpleNamespace")


def find(asked: str, names: Mapping[str, Callable[..., Any]]) -> Name:
    """What stands for a name. Raises: RefusedError for names that weights have no use for."""
    if asked in names:
        return Name(asked, names[asked])
    module, _, name = asked.rpartition(".")
    top = module.partition(".")[0]
    is_data = module in _PLAIN_MODULES or asked in _PLAIN_NAMES or module.startswith("torch.optim.")
    is_data = is_data or (module == "builtins" and name in _PLAIN_BUILTINS)
    if not is_data and (top in sys.stdlib_module_names or top == "torch"):
        raise RefusedError(asked)
    return Name(asked, lambda *args: StandIn(asked, args))
