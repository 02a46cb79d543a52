"""Run a pickle without letting it run anything: an interpreter that builds plain data and nothing else.

A pickle is a small program. This machine knows its opcodes and looks every name up in a fixed table of our own functions.
What the table lacks is never imported: the standard library's programs and torch's are refused with their name, as no weights
need them; anything else (a trainer's options, a path, a random state) becomes a StandIn, which holds what it was called with
and does nothing. Lengths are compared with what is left of the file before anything is allocated, only scalars are hashed,
and the number of operations is bounded, so that a few hundred bytes cannot cost gigabytes or minutes.

Two kinds of files come here: Paddle's (.pdparams, .pdema, .pdopt), which are nothing but a pickle, and PyTorch's.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, ClassVar

import torch

from hybridvit.errors import CheckpointError
from hybridvit.kernels.private import PythonUnpickler
from hybridvit.weights.containers.names import (
    NAMES,
    Array,
    DamagedError,
    Dtype,
    Name,
    Options,
    StandIn,
    find,
    put,
    scalars,
)

MAX_OPERATIONS = 2_000_000
MAX_DEPTH = 1000
"""Of open lists, dictionaries and tuples."""


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


class _Counted(dict[int, Any]):
    """The opcodes, which may be looked up so many times."""

    left = MAX_OPERATIONS

    def __getitem__(self, opcode: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise DamagedError(f"is a pickle of more than {MAX_OPERATIONS:,} operations, more than any weights need")
        return super().__getitem__(opcode)


class Machine(PythonUnpickler):
    """The standard library's own interpreter, in Python, with every opcode replaced that calls, fills or hashes."""

    dispatch: ClassVar[dict[int, Any]] = dict(PythonUnpickler.dispatch)

    def __init__(self, file: BinaryIO, size: int, names: Mapping[str, Callable[..., Any]] = NAMES) -> None:
        self.file, self.names = _Bounded(file, size), names
        self.left = 4 * size + 1_000_000  # elements that calls may copy
        super().__init__(self.file, encoding="latin-1")
        self.dispatch = _Counted(type(self).dispatch)  # type: ignore[misc]

    def find_class(self, module: str, name: str) -> Any:
        return find(
            f"{module}.{name}".replace("__builtin__.", "builtins.", 1).replace("copy_reg.", "copyreg.", 1), self.names
        )

    def call(self, name: Any, args: Any) -> None:
        if not isinstance(name, Name) or not isinstance(args, tuple):
            raise DamagedError("calls something that has no name")
        self.charge(1 + sum(len(arg) for arg in args if isinstance(arg, str | bytearray | list | tuple | dict)))
        self.append(name.call(*args))

    def charge(self, elements: int) -> None:
        self.left -= elements
        if self.left < 0:
            raise DamagedError("copies its own data again and again, as no writer of weights does")

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.call(self.stack.pop(), args)

    def load_newobj_ex(self) -> None:
        self.stack.pop()  # keyword arguments
        self.load_reduce()

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, StandIn | Options | Dtype | Array):
            self.charge(sum(len(part) for part in state if isinstance(part, bytearray)) if type(state) is tuple else 1)
            target.restore(state)
        elif not isinstance(target, OrderedDict):  # PyTorch's state dicts carry versions as an attribute, unused here
            raise DamagedError(f"fills a {type(target).__name__} by force, as no writer of weights does")

    def load_mark(self) -> None:
        if len(self.metastack) > MAX_DEPTH:
            raise DamagedError(f"is nested more than {MAX_DEPTH} deep, as no writer of weights does")
        super().load_mark()

    def load_bytes(self, width: int) -> None:
        count = int.from_bytes(self.read(width), "little")
        if count > self.file.size:
            raise DamagedError("ends before its data does: the file is cut short or altered")
        buffer = bytearray(count)
        if self.readinto(buffer) != count:
            raise DamagedError("ends before its data does: the file is cut short or altered")
        self.append(buffer)

    def load_text(self, width: int) -> None:
        """Names of files may hold what is no text; nothing that is printed may."""
        count = int.from_bytes(self.read(width), "little")
        self.append(self.read(count).decode("utf-8", "backslashreplace"))

    def load_unicode(self) -> None:
        text = self.readline()[:-1].decode("raw-unicode-escape")
        self.append(text.encode("utf-8", "backslashreplace").decode())

    def fill(self, values: list[Any]) -> None:
        target: Any = self.stack[-1]
        if isinstance(target, StandIn):
            target = target.members
        if type(target) is set:
            target.update(scalars(values))
        elif type(target) is list:
            target.extend(values)
        else:
            raise DamagedError(f"appends to a {type(target).__name__}")

    def load_append(self) -> None:
        self.fill([self.stack.pop()])

    def load_appends(self) -> None:
        values = self.pop_mark()
        self.fill(values)

    def load_setitem(self) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        self.put([key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self.put(items)

    def put(self, items: list[Any]) -> None:
        target: Any = self.stack[-1]
        if isinstance(target, StandIn):
            target = target.items
        if not isinstance(target, dict):
            raise DamagedError(f"sets items of a {type(target).__name__}")
        put(target, items)

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self.put(items)

    def load_frozenset(self) -> None:
        items = self.pop_mark()  # which makes append another method
        self.append(frozenset(scalars(items)))

    def load_refused(self) -> None:
        raise DamagedError("uses pickle opcodes that no writer of weights uses")


Machine.dispatch |= {
    opcode[0]: function
    for function, opcodes in {
        Machine.load_reduce: (pickle.REDUCE, pickle.NEWOBJ),
        Machine.load_newobj_ex: (pickle.NEWOBJ_EX,),
        Machine.load_build: (pickle.BUILD,),
        Machine.load_mark: (pickle.MARK,),
        Machine.load_unicode: (pickle.UNICODE,),
        Machine.load_append: (pickle.APPEND,),
        Machine.load_appends: (pickle.APPENDS, pickle.ADDITEMS),
        Machine.load_setitem: (pickle.SETITEM,),
        Machine.load_setitems: (pickle.SETITEMS,),
        Machine.load_dict: (pickle.DICT,),
        Machine.load_frozenset: (pickle.FROZENSET,),
        (lambda self: self.load_bytes(1)): (pickle.SHORT_BINBYTES,),
        (lambda self: self.load_bytes(4)): (pickle.BINBYTES,),
        (lambda self: self.load_bytes(8)): (pickle.BINBYTES8, pickle.BYTEARRAY8),
        (lambda self: self.load_text(1)): (pickle.SHORT_BINUNICODE,),
        (lambda self: self.load_text(4)): (pickle.BINUNICODE,),
        (lambda self: self.load_text(8)): (pickle.BINUNICODE8,),
        Machine.load_refused: (
            *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.INST, pickle.OBJ),
            *(pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
        ),
    }.items()
    for opcode in opcodes
}


def run(machine: Machine) -> Any:
    """The object a pickle describes.

    Raises: RefusedError, DamagedError; both without the file's name, which the caller adds.
    """
    try:
        return machine.load()
    except CheckpointError:
        raise
    except Exception as error:  # an altered program fails in as many ways as there are opcodes
        reason = str(error)[:100]
        raise DamagedError(f"is a damaged pickle ({type(error).__name__}: {reason})") from error


def plain(value: Any, depth: int = 0) -> Any:
    """Tensors for arrays, dictionaries for what was filled like one; Paddle's nested (name, array) lose the name."""
    if isinstance(value, Array):
        return value.tensor
    if isinstance(value, StandIn) and value.items:
        value = value.items
    if isinstance(value, dict) and depth < 3:
        return {key: plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], Array):
        return plain(value[1])
    return value


def read_paddle(file: BinaryIO, size: int) -> Any:
    """What paddle.save wrote, with tensors for arrays."""
    return plain(run(Machine(file, size)))


def write_paddle(tensors: Mapping[str, torch.Tensor], file: BinaryIO) -> None:
    """As paddle.save writes a state dict: arrays by name, and the table of inner names that Paddle's loader expects."""
    state: dict[str, Any] = {key: tensor.numpy() for key, tensor in tensors.items()}
    state["StructuredToParameterName@@"] = {key: key for key in tensors}
    pickle.dump(state, file, protocol=4)
