"""MindSpore's .ckpt: a protobuf message, read and written here without MindSpore.

    Checkpoint  { repeated Value value = 1 }
    Value       { string tag = 1; TensorProto tensor = 2 }
    TensorProto { repeated int64 dims = 1; string tensor_type = 2; bytes tensor_content = 3 }

Source: mindspore-ai/mindspore, mindspore/ccsrc/utils/checkpoint.proto; large tensors come as several values of one tag.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import torch

from hybridvit.weights.containers.names import DamagedError

_DTYPES = {
    **{"Float16": torch.float16, "BFloat16": torch.bfloat16, "Float32": torch.float32, "Float64": torch.float64},
    **{"Int8": torch.int8, "Int16": torch.int16, "Int32": torch.int32, "Int64": torch.int64, "UInt8": torch.uint8},
    "Bool": torch.bool,
}
_CRC_MARK, _CRC_BYTES = b"crc_num", 17  # MindSpore appends these when asked for a checksum
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
MAX_DIMS = 32
MAX_FIELDS = 1_000_000
"""In one file: a tensor has six."""


def read(file: BinaryIO) -> dict[str, torch.Tensor]:
    """Tensors by name. Values of other types (MindSpore stores steps and names as text) are left out.

    Raises: DamagedError, without the file's name.
    """
    data = memoryview(bytearray(file.read()))
    if bytes(data[-_CRC_BYTES:][: len(_CRC_MARK)]) == _CRC_MARK:
        data = data[:-_CRC_BYTES]
    parts: dict[str, list[torch.Tensor]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    left = itertools.count(MAX_FIELDS, -1)
    for number, value in _fields(data, left):
        if number != 1:
            raise DamagedError(f"is not a MindSpore checkpoint: unknown field {number}")
        message = dict(_fields(_bytes(value), left))
        if message.keys() != {1, 2}:
            raise DamagedError("is not a MindSpore checkpoint: a value without name or tensor")
        tag, (shape, part) = _text(message[1]), _tensor(_bytes(message[2]), left)
        if part is not None:
            parts.setdefault(tag, []).append(part)
            shapes[tag] = shape
    tensors = {tag: torch.cat(chunks) if len(chunks) > 1 else chunks[0] for tag, chunks in parts.items()}
    wrong = [tag for tag, tensor in tensors.items() if tensor.numel() != math.prod(shapes[tag])]
    if wrong or not tensors:
        raise DamagedError(
            f"is a damaged MindSpore checkpoint: {wrong[0]} has too few numbers" if wrong else "holds no tensors"
        )
    return {tag: tensor.reshape(shapes[tag]) for tag, tensor in tensors.items()}


def _tensor(message: memoryview, left: Iterator[int]) -> tuple[tuple[int, ...], torch.Tensor | None]:
    dims: list[int] = []
    kind, content = "", memoryview(b"")
    for number, value in _fields(message, left):
        if number == 1:
            dims += [value] if isinstance(value, int) else _varints(value)
        elif number == 2:
            kind = _text(value)
        elif number == 3:
            content = _bytes(value)
    if len(dims) > MAX_DIMS or any(not 0 <= n < 1 << 40 for n in dims):
        raise DamagedError("is a damaged MindSpore checkpoint: a tensor of impossible shape")
    dtype = _DTYPES.get(kind)
    if dtype is None:
        return (), None
    shape = () if dims == [0] else tuple(dims)  # MindSpore's spelling of a scalar
    if len(content) % dtype.itemsize:
        raise DamagedError("is a damaged MindSpore checkpoint: a tensor ends within a number")
    if not len(content):
        return shape, torch.empty(0, dtype=dtype)
    return shape, torch.frombuffer(bytearray(content), dtype=dtype)


def _fields(data: memoryview, left: Iterator[int]) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of one message; numbers as int, everything else as bytes. left: counts down to the last."""
    place = 0
    while place < len(data):
        if next(left) <= 0:
            raise DamagedError(f"is no MindSpore checkpoint of a model: it has more than {MAX_FIELDS:,} fields")
        key, place = _varint(data, place)
        wire = key & 7
        if wire == _VARINT:
            value, place = _varint(data, place)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            length, place = _varint(data, place)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise DamagedError("is not a MindSpore checkpoint (no protobuf)")
        if length > len(data) - place:
            raise DamagedError("ends before its data does: the file is cut short or altered")
        yield key >> 3, data[place : place + length]
        place += length


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise DamagedError("ends before its data does: the file is cut short or altered")


def _varints(data: memoryview) -> list[int]:
    values: list[int] = []
    place = 0
    while place < len(data) and len(values) <= MAX_DIMS:
        value, place = _varint(data, place)
        values.append(value)
    return values


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise DamagedError("is not a MindSpore checkpoint: a number where a message should be")
    return value


def _text(value: int | memoryview) -> str:
    try:
        return bytes(_bytes(value)).decode()
    except UnicodeDecodeError as error:
        raise DamagedError("is not a MindSpore checkpoint: a name that is not text") from error


def write(tensors: Mapping[str, torch.Tensor], file: BinaryIO) -> None:
    """One value per tensor, as mindspore.save_checkpoint writes them."""
    kinds = {dtype: kind for kind, dtype in _DTYPES.items()}
    for tag, tensor in tensors.items():
        dims = b"".join(b"\x08" + _encode(n) for n in tensor.shape or (0,))
        content = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        proto = dims + _delimited(2, kinds[tensor.dtype].encode()) + _delimited(3, content)
        file.write(_delimited(1, _delimited(1, tag.encode()) + _delimited(2, proto)))


def _delimited(number: int, content: bytes) -> bytes:
    return _encode(number << 3 | _BYTES) + _encode(len(content)) + content


def _encode(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
