"""PyTorch's .pth, .pt, .bin, .tar: a zip of a pickle and raw storages, or (before 1.6) pickles followed by raw storages.

The pickle runs on our own machine (pickles.py), which makes tensors that are views of the storages and nothing else; no
tensor claims more than its storage holds, and no storage more than the file has.
"""

import io
import mmap
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybridvit.errors import CheckpointError
from hybridvit.weights.containers.names import NAMES, DamagedError, Name, StandIn, is_count, num_elements
from hybridvit.weights.containers.pickles import Machine, plain, run

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
MAX_PROGRAM_BYTES = 256 << 20

_DTYPES = {
    **{"Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16},
    **{"Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8},
    "Bool": torch.bool,
}
_STORAGES = {f"torch.{name}Storage": dtype for name, dtype in _DTYPES.items()}


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Tensor) or not isinstance(stride, tuple | list) or not isinstance(shape, tuple | list):
        raise DamagedError("has a tensor without a storage")
    count = num_elements(shape)
    if len(stride) != len(shape) or not is_count(offset) or not all(map(is_count, stride)):
        raise DamagedError("has a tensor of impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) if count else offset - 1
    if offset + count > len(storage) or last >= len(storage):
        raise DamagedError("has a tensor that claims more elements than its storage holds")
    return storage.as_strided(shape, stride, offset)


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _rebuild_subclass(rebuild: Any, kind: Any, args: Any, *_: Any) -> Any:
    """A tensor with attributes of its own, which are left out."""
    if (
        not isinstance(rebuild, Name)
        or not rebuild.asked.startswith("torch._utils._rebuild_")
        or type(args) is not tuple
    ):
        raise DamagedError("has a tensor of no known kind")
    return rebuild.call(*args)


# Beyond what every pickle may have: exactly what tensors need, and the types that optimizers and options name.
_NAMES: Mapping[str, Callable[..., Any]] = {
    **NAMES,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch._tensor._rebuild_from_type_v2": _rebuild_subclass,
    **{
        name: lambda *args, name=name: StandIn(name, args)
        for name in ("torch.Size", "torch.device", *_STORAGES, *map(str, _DTYPES.values()))
    },
}


class _TorchMachine(Machine):
    """Makes tensors of storages, which it asks for by key.

    storage: (key, type, number of elements) -> a flat tensor. limit: bytes that all storages may have.
    """

    def __init__(self, program: Any, size: int, storage: Callable[[str, torch.dtype, int], Tensor], limit: int) -> None:
        super().__init__(program, size, _NAMES)
        self.storage, self.room = storage, limit
        self.seen: dict[str, Tensor] = {}

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], Name):
            raise DamagedError("refers to something other than a tensor's storage")
        _, kind, key, _, count, *view = pid
        dtype = _STORAGES.get(kind.asked)
        if dtype is None or not isinstance(key, str) or not is_count(count):
            raise DamagedError("has a damaged reference to a storage")
        if key not in self.seen:
            self.room -= count * dtype.itemsize
            if self.room < 0:
                raise DamagedError("has tensors that claim more bytes than the file holds: it is cut short or altered")
            self.seen[key] = self.storage(key, dtype, count)
        if self.seen[key].dtype != dtype:
            raise DamagedError("has one storage of two types")
        if view and view[0] is not None:  # of files before 0.4: (key, offset, size)
            _, offset, size = view[0]
            if not is_count(offset) or not is_count(size) or offset + size > len(self.seen[key]):
                raise DamagedError("has a view that claims more elements than its storage holds")
            return self.seen[key][offset : offset + size]
        return self.seen[key]


# ---- since 1.6 --------------------------------------------------------------------------------------------------------------


def read_zip(path: Path) -> Any:
    """The object torch.save wrote, its tensors mapped from the file rather than copied."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            entries = {entry.filename: entry for entry in archive.infolist()}
            _check_archive(entries, size)
            program_name = next((name for name in entries if name.rpartition("/")[2] == "data.pkl"), None)
            if program_name is None or any(name.endswith("constants.pkl") for name in entries):
                raise DamagedError(_other_archive(entries))
            if entries[program_name].file_size > MAX_PROGRAM_BYTES:
                raise DamagedError(f"has a pickle of more than {MAX_PROGRAM_BYTES >> 20} MiB beside its tensors")
            program = archive.read(program_name)
            folder = program_name.removesuffix("data.pkl")
            is_big = f"{folder}byteorder" in entries and archive.read(f"{folder}byteorder") == b"big"
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DamagedError(f"is a truncated or damaged PyTorch (zip) file ({error})") from error

    def storage(key: str, dtype: torch.dtype, count: int) -> Tensor:
        entry = entries.get(f"{folder}data/{key}")
        if entry is None or entry.file_size < count * dtype.itemsize:
            raise DamagedError("has tensors that claim more bytes than the file holds: it is cut short or altered")
        # A local header has 30 bytes, whose last four are the lengths of the name and the field behind it.
        lengths = mapped[entry.header_offset + 26 : entry.header_offset + 30]
        start = entry.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        if start + count * dtype.itemsize > size:
            raise DamagedError("ends before its data does: the file is cut short or altered")
        if not count:
            return torch.empty(0, dtype=dtype)
        flat = torch.frombuffer(mapped, dtype=dtype, count=count, offset=start)
        return flat.view(torch.uint8).unflatten(0, (count, -1)).flip(1).flatten().view(dtype) if is_big else flat

    return plain(run(_TorchMachine(io.BytesIO(program), len(program), storage, size)))


def _check_archive(entries: Mapping[str, zipfile.ZipInfo], size: int) -> None:
    """torch.save never compresses; an archive that does could unpack to anything."""
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise DamagedError(
            "is a compressed zip archive; torch.save writes them uncompressed. Unpack it: is the file inside?"
        )
    if sum(entry.file_size for entry in entries.values()) > size:
        raise DamagedError("is a zip archive whose parts claim more bytes than it has: cut short or altered")


def _other_archive(entries: Mapping[str, Any]) -> str:
    if any(name.endswith("constants.pkl") for name in entries):
        return "is a TorchScript archive: code and weights in one. Save model.state_dict() instead"
    if "model.weights.h5" in entries:
        return "is a Keras 3 archive (.keras). Save the weights as legacy HDF5: model.save_weights('weights.h5')"
    if entries and all(name.endswith(".npy") for name in entries):
        return "is a NumPy archive (.npz), which none of the known sources writes"
    return "is a zip archive, but not one that torch.save wrote"


# ---- before -----------------------------------------------------------------------------------------------------------------


def read_legacy(path: Path) -> Any:
    """The object an older torch.save wrote, without zip: pickles, then each storage's number of elements and its bytes."""
    size = path.stat().st_size

    def none(key: str, dtype: torch.dtype, count: int) -> Tensor:
        raise DamagedError("has a tensor where none can be")

    def empty(key: str, dtype: torch.dtype, count: int) -> Tensor:
        return torch.empty(count, dtype=dtype)

    with path.open("rb") as file:
        for _ in range(3):  # magic number, protocol, byte order and sizes
            run(_TorchMachine(file, size, none, 0))
        machine = _TorchMachine(file, size, empty, size)
        tree = plain(run(machine))
        keys = run(_TorchMachine(file, size, none, 0))
        if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(machine.seen):
            raise DamagedError("is a truncated or damaged PyTorch file: its storages are not those its tensors need")
        for key in keys:
            flat = machine.seen[key]
            count, raw = int.from_bytes(file.read(8), "little"), memoryview(flat.view(torch.uint8).numpy())  # type: ignore[arg-type]
            if count != len(flat) or file.readinto(raw) != flat.nbytes:
                raise DamagedError("is a truncated or damaged PyTorch file: it ends before its storages do")
    return tree


def write(tensors: Mapping[str, Tensor], path: Path, layout: str | None) -> None:
    """torch.save a state dict, flat or under the key that the source's own scripts look for."""
    state = OrderedDict(tensors)
    try:
        torch.save({layout: state} if layout else state, path)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be written: {error}") from error
