"""PyTorch's .pth, .pt, .bin, .tar: a zip of a pickle and raw storages, or (before 1.6) pickles followed by raw storages.

Opened by torch.load(weights_only=True) with an allow-list of exactly what the known sources need, after the pickle was tried
out on inert stand-ins: that shows the name of whatever else it asks for, and that no tensor claims more than the file has.
"""

import argparse
import io
import math
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hybridvit.errors import CheckpointError
from hybridvit.weights.containers.pickles import DamagedError, Machine, Namespace, Record, RefusedError, run

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
MAX_PROGRAM_BYTES = 256 << 20

_DTYPES = {
    **{"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2},
    **{"Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1},
}


class _Storage(Record):
    """A storage's type; called with nothing, as the pickle only ever names it."""


class _Tensor(Record):
    """A tensor that was checked against its storage."""


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, *_: Any) -> _Tensor:
    available = storage.count if isinstance(storage, _Counted) else -1
    if not all(isinstance(n, int) and n >= 0 for n in (offset, *shape)) or offset + math.prod(shape) > available:
        raise DamagedError("has a tensor that claims more elements than its storage holds")
    return _Tensor()


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


class _Counted:
    """A storage of so many elements."""

    def __init__(self, count: int) -> None:
        self.count = count


# Exactly what the known sources need: tensors, plain containers, argparse's options, and the numpy scalars of optimizers
# and metrics.
_NAMES: Mapping[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    **{
        f"torch.{name}Storage": type(f"{name}Storage", (_Storage,), {"itemsize": size})
        for name, size in _DTYPES.items()
    },
    "torch.Size": Record,
    "torch.device": Record,
    "_codecs.encode": Record,
    "argparse.Namespace": Namespace,
    "numpy.dtype": Record,
    "numpy.core.multiarray.scalar": Record,
    "numpy._core.multiarray.scalar": Record,
}


class InertNamespace(argparse.Namespace):
    """Options as data: what torch.load fills in place of argparse.Namespace."""


class InertScalar:
    """A numpy scalar that nobody looks at."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


_SAFE_GLOBALS: list[Any] = [
    (InertNamespace, "argparse.Namespace"),
    *((InertScalar, f"numpy.{name}") for name in ("dtype", "core.multiarray.scalar", "_core.multiarray.scalar")),
]


class _Trial(Machine):
    """Runs torch's pickle on stand-ins and counts the bytes of its storages."""

    def __init__(self, program: Any, size: int, sizes: Mapping[str, int] | None, limit: int) -> None:
        super().__init__(program, size, _NAMES)
        self.sizes, self.left = sizes, limit
        self.seen: dict[str, _Counted] = {}

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], type):
            raise DamagedError("refers to something other than a tensor's storage")
        _, kind, key, _, count = pid[:5]
        itemsize = getattr(kind, "itemsize", None)
        if itemsize is None or not isinstance(key, str) or not isinstance(count, int) or count < 0:
            raise DamagedError("has a damaged reference to a storage")
        if key not in self.seen:
            nbytes = count * itemsize
            self.left -= nbytes
            if self.left < 0 or (self.sizes is not None and self.sizes.get(key, -1) < nbytes):
                raise DamagedError("has tensors that claim more bytes than the file holds: it is cut short or altered")
            self.seen[key] = _Counted(count)
        return self.seen[key]


def read_zip(path: Path) -> Any:
    """The object torch.save wrote, its tensors mapped from the file rather than copied."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            _check_archive(entries, path.stat().st_size)
            program_name = next((name for name in entries if name.rpartition("/")[2] == "data.pkl"), None)
            if program_name is None or any(name.endswith("constants.pkl") for name in entries):
                raise DamagedError(_other_archive(entries))
            if entries[program_name].file_size > MAX_PROGRAM_BYTES:
                raise DamagedError(f"has a pickle of more than {MAX_PROGRAM_BYTES >> 20} MiB beside its tensors")
            program = archive.read(program_name)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DamagedError(f"is a truncated or damaged PyTorch (zip) file ({error})") from error
    folder = program_name.removesuffix("data.pkl") + "data/"
    sizes = {name.removeprefix(folder): entry.file_size for name, entry in entries.items() if name.startswith(folder)}
    run(_Trial(io.BytesIO(program), len(program), sizes, path.stat().st_size))
    return _load(path, mmap=True)


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


def read_legacy(path: Path) -> Any:
    """The object an older torch.save wrote, without zip."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for _ in range(3):  # magic number, protocol, byte order and sizes
            run(_Trial(file, size, None, 0))
        run(_Trial(file, size, None, size))
    return _load(path, mmap=False)


def _load(path: Path, *, mmap: bool) -> Any:
    try:
        with torch.serialization.safe_globals(_SAFE_GLOBALS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch.load raises whatever its parts raise
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked:
            raise RefusedError(asked[1]) from error
        reason = str(error).strip().partition("\n")[0]
        raise DamagedError(f"is a truncated or damaged PyTorch file ({type(error).__name__}: {reason})") from error


def write(tensors: Mapping[str, torch.Tensor], path: Path, layout: str | None) -> None:
    """torch.save a state dict, flat or under the key that the source's own scripts look for."""
    state = OrderedDict(tensors)
    try:
        torch.save({layout: state} if layout else state, path)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be written: {error}") from error
