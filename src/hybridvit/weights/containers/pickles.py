"""Run a pickle without letting it run anything: an interpreter that builds plain data and nothing else.

A pickle is a small program. This machine knows its opcodes, looks every name up in a fixed table and refuses the file,
with the name it asked for, when the table lacks it. What stands in the table is inert: numpy's array becomes a record that
is checked before any bytes are looked at. Lengths are compared with what is left of the file before anything is allocated,
and dictionary keys must be scalars, so that a few hundred bytes cannot cost gigabytes or minutes.

Two kinds of files come here: Paddle's (.pdparams, .pdema, .pdopt), which are nothing but a pickle, and PyTorch's, whose
program is run here first, with storages that count bytes instead of holding them, and only then by
torch.load(weights_only=True).
"""

import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch

from hybridvit.errors import CheckpointError
from hybridvit.kernels.private import PythonUnpickler


class RefusedError(CheckpointError):
    """A pickle asked for a name outside its table. `asked` is that name."""

    def __init__(self, asked: str) -> None:
        super().__init__(asked)
        self.asked = asked


class DamagedError(CheckpointError):
    """A pickle that no program of its kind writes: cut short, altered, or built to do harm."""


class Record:
    """Stands for an object that is not built: what it was called with, and what it was filled with."""

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.state: Any = None

    def restore(self, state: Any) -> None:
        self.state = state


class Namespace(Record):
    """argparse.Namespace, as data."""


class Dtype(Record):
    """numpy.dtype: numbers only. `dtype` is the real one."""

    def __init__(self, code: Any, *_: Any) -> None:
        super().__init__(code)
        if code not in _NUMPY_CODES:
            raise DamagedError(f"holds an array of type {code!r}, which is not a number")
        self.dtype = np.dtype(code)

    def restore(self, state: Any) -> None:
        """numpy's (version, byte order, ...)."""
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise DamagedError("holds a damaged numpy.dtype")
        self.dtype = self.dtype.newbyteorder(order)


class Array(Record):
    """numpy.ndarray, filled in two steps as numpy's own __reduce__ writes it. `tensor` shares the pickle's bytes."""

    tensor: torch.Tensor

    def restore(self, state: Any) -> None:
        """numpy's (version, shape, dtype, is_fortran, bytes)."""
        try:
            _, shape, dtype, is_fortran, raw = state
            count = math.prod(shape)
            fits = isinstance(dtype, Dtype) and all(isinstance(n, int) and n >= 0 for n in shape)
            fits = fits and isinstance(raw, bytearray) and count * dtype.dtype.itemsize == len(raw)
        except (TypeError, ValueError, OverflowError):
            fits = False
        if not fits:
            raise DamagedError("holds an array whose shape, type and bytes contradict each other")
        array = np.frombuffer(raw, dtype.dtype) if count else np.empty(0, dtype.dtype)
        array = array.astype(dtype.dtype.newbyteorder("="), copy=False)
        self.tensor = torch.from_numpy(array.reshape(shape, order="F" if is_fortran else "C"))


_NUMPY_CODES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "b1")


def _reconstruct(*_: Any) -> Array:
    return Array()


# What Paddle's pickles need, and nothing else. numpy 2 spells its own modules with an underscore.
PADDLE_NAMES: Mapping[str, Callable[..., Any]] = {
    "numpy.ndarray": Array,
    "numpy.dtype": Dtype,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "collections.OrderedDict": OrderedDict,
    "builtins.tuple": tuple,
    "builtins.list": list,
    "builtins.dict": dict,
    "builtins.set": set,
}


class _Bounded:
    """A file that never promises more bytes than it has left."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size

    def read(self, count: int) -> bytes:
        if count > self.size - self.file.tell():
            raise DamagedError("ends before its data does: the file is cut short or altered")
        return self.file.read(count)

    def readinto(self, buffer: bytearray) -> int:
        return self.file.readinto(buffer)  # type: ignore[attr-defined]

    def readline(self) -> bytes:
        return self.file.readline()


class Machine(PythonUnpickler):
    """The standard library's own interpreter, in Python, with the dangerous opcodes replaced."""

    dispatch: ClassVar[dict[int, Any]] = dict(PythonUnpickler.dispatch)

    def __init__(self, file: BinaryIO, size: int, names: Mapping[str, Any]) -> None:
        self.file = _Bounded(file, size)
        self.names = names
        super().__init__(self.file, encoding="latin-1")

    def find_class(self, module: str, name: str) -> Any:
        asked = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if asked not in self.names:
            raise RefusedError(asked)
        return self.names[asked]

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Record):
            target.restore(state)
        elif not isinstance(target, OrderedDict):  # PyTorch's state dicts carry versions as an attribute, unused here
            raise DamagedError(f"fills a {type(target).__name__} by force, as no writer of weights does")

    def load_bytes(self, width: int) -> None:
        count = int.from_bytes(self.read(width), "little")
        if count > self.file.size:
            raise DamagedError("ends before its data does: the file is cut short or altered")
        buffer = bytearray(count)
        if self.readinto(buffer) != count:
            raise DamagedError("ends before its data does: the file is cut short or altered")
        self.append(buffer)

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._put(self.stack[-1], items)

    def load_setitem(self) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        self._put(self.stack[-1], [key, value])

    def load_dict(self) -> None:
        target: dict[Any, Any] = {}
        self._put(target, self.pop_mark())
        self.append(target)

    def _put(self, target: Any, items: list[Any]) -> None:
        """Only scalars as keys: hashing a deep tuple that shares its parts takes exponential time."""
        if not isinstance(target, dict) or not all(isinstance(key, str | int | float | None) for key in items[::2]):
            raise DamagedError("has a dictionary with keys that are neither text nor numbers")
        target.update(zip(items[::2], items[1::2], strict=True))

    def load_refused(self) -> None:
        raise DamagedError("uses pickle opcodes that no writer of weights uses")

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SHORT_BINBYTES[0]] = lambda self: self.load_bytes(1)
    dispatch[pickle.BINBYTES[0]] = lambda self: self.load_bytes(4)
    dispatch[pickle.BINBYTES8[0]] = lambda self: self.load_bytes(8)
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    for _opcode in (
        *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.FROZENSET, pickle.ADDITEMS),
        *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    ):
        dispatch[_opcode[0]] = load_refused


def run(machine: Machine) -> Any:
    """The object a pickle describes.

    Raises: RefusedError, DamagedError; both without the file's name, which the caller adds.
    """
    try:
        return machine.load()
    except CheckpointError:
        raise
    except Exception as error:  # an altered program fails in as many ways as there are opcodes
        raise DamagedError(f"is a damaged pickle ({type(error).__name__}: {error})") from error


def read_paddle(file: BinaryIO, size: int) -> Any:
    """What paddle.save wrote, with tensors for arrays. Nested values, which Paddle writes as (name, array), lose the name."""
    return _plain(run(Machine(file, size, PADDLE_NAMES)))


def _plain(value: Any, depth: int = 0) -> Any:
    if isinstance(value, Array):
        return getattr(value, "tensor", None)
    if isinstance(value, dict) and depth < 3:
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], Array):
        return _plain(value[1])
    return value


def write_paddle(tensors: Mapping[str, torch.Tensor], file: BinaryIO) -> None:
    """As paddle.save writes a state dict: arrays by name, and the table of inner names that Paddle's loader expects."""
    state: dict[str, Any] = {key: tensor.numpy() for key, tensor in tensors.items()}
    state["StructuredToParameterName@@"] = {key: key for key in tensors}
    pickle.dump(state, file, protocol=4)
