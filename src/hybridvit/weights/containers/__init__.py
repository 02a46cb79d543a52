"""Open any file that weights come in, and let none of them do anything but hold data.

What a file is, its first bytes say; its name says nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hybridvit.errors import CheckpointError
from hybridvit.weights.containers import keras_hdf5, mindspore, pickles, torch_files
from hybridvit.weights.containers.names import DamagedError, RefusedError, StandIn

FORMATS = ("torch", "paddle", "safetensors", "keras", "mindspore")
MAX_SAFETENSORS_HEADER = 100_000_000  # the format's own limit
MAX_SAFETENSORS = 100_000
"""Tensors in one file."""

# What people hand over instead of weights, by its first bytes.
_NOT_WEIGHTS = {
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself: `git lfs pull` fetches it",
    b"\x1f\x8b": "is a gzip archive: unpack it first",
    b"BZh": "is a bzip2 archive: unpack it first",
    b"\xfd7zXZ": "is an xz archive: unpack it first",
    b"Rar!": "is a RAR archive: unpack it first",
    b"7z\xbc\xaf": "is a 7z archive: unpack it first",
    b"%PDF": "is a PDF document",
    b"\x89PNG": "is a picture",
    b"\xff\xd8\xff": "is a picture",
    b"\x7fELF": "is a program",
}


@dataclass(frozen=True)
class Contents:
    """What was in a file: `tree` is nested dictionaries with tensors, and whatever inert data lay beside them."""

    path: Path
    format: str
    tree: dict[str, Any]
    metadata: dict[str, str] = field(default_factory=dict)


def read(path: str | Path) -> Contents:
    """Open a weights file. Tensors of safetensors and of newer PyTorch files are mapped from it, not copied.

    Raises: CheckpointError, one line that names the file, what is wrong with it and what to do.
    """
    path = Path(path)
    _check_is_file(path)
    try:
        return _read(path, kind_of(path))
    except RefusedError as refused:
        raise CheckpointError(
            f"{path} asks for {refused.asked}, which is more than weights need, and was not opened: such a file can run "
            "programs. Have its author save only the state dict: torch.save(model.state_dict(), ...)."
        ) from refused
    except DamagedError as damaged:
        raise DamagedError(f"{path} {damaged}.") from damaged
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error


def _check_is_file(path: Path) -> None:
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name the weights file in it.")
    if not path.exists():
        raise CheckpointError(f"{path} does not exist.")
    if not path.is_file():
        raise CheckpointError(f"{path} is not a regular file.")


def kind_of(path: Path) -> str:
    """The format by the first bytes: one of FORMATS, or "torch-legacy".

    Raises: DamagedError, without the file's name, for everything else.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(4096)
    if not start:
        raise DamagedError("is empty")
    if start.startswith(b"PK"):
        return "torch"
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "keras"
    if start.startswith(torch_files.LEGACY_MAGIC):
        return "torch-legacy"
    if start[0] == 0x80 and len(start) > 1 and start[1] <= 5:
        return "paddle"
    if start[8:9] == b"{":
        _check_header_length(int.from_bytes(start[:8], "little"), size)
        return "safetensors"
    for magic, what in _NOT_WEIGHTS.items():
        if start.startswith(magic):
            raise DamagedError(what)
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise DamagedError("is a web page: the download ended at an error or login page. Fetch the file again")
    if start[0] == 0x0A and b"\0" in start:
        return "mindspore"
    if _is_text(start):
        raise DamagedError("is a text file, not weights")
    raise DamagedError("is of no known format (PyTorch, Paddle, safetensors, Keras HDF5 and MindSpore are)")


def _is_text(start: bytes) -> bool:
    try:
        start[:-3].decode()  # the cut may divide a character
    except UnicodeDecodeError:
        return False
    return b"\0" not in start


def _check_header_length(header: int, size: int) -> None:
    if header > MAX_SAFETENSORS_HEADER:
        raise DamagedError(
            f"looks like safetensors, but announces a header of {header} bytes; the format allows {MAX_SAFETENSORS_HEADER}"
        )
    if header > size - 8:
        raise DamagedError("is a truncated safetensors file: even its header is incomplete")


def _read(path: Path, kind: str) -> Contents:
    metadata: dict[str, str] = {}
    tree: Any
    if kind == "torch":
        tree = torch_files.read_zip(path)
    elif kind == "torch-legacy":
        tree = torch_files.read_legacy(path)
    elif kind == "paddle":
        with path.open("rb") as file:
            tree = pickles.read_paddle(file, path.stat().st_size)
    elif kind == "keras":
        tree = keras_hdf5.read(path)
    elif kind == "mindspore":
        with path.open("rb") as file:
            tree = mindspore.read(file)
    else:
        tree, metadata = _read_safetensors(path)
    if not isinstance(tree, dict):
        what = f"whole pickled {tree.asked}" if isinstance(tree, StandIn) else type(tree).__name__
        raise DamagedError(
            f"holds a {what}, not a dictionary of tensors. Have its author save those: torch.save(model.state_dict(), ...)"
        )
    return Contents(path, kind.removesuffix("-legacy"), tree, metadata)


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            keys = file.keys()
            if len(keys) > MAX_SAFETENSORS:
                raise DamagedError(f"holds {len(keys):,} tensors, more than any model")
            return {key: file.get_tensor(key) for key in keys}, file.metadata() or {}
    except SafetensorError as error:
        raise DamagedError(f"is a truncated or damaged safetensors file ({error})") from error


def write(path: Path, format: str, tensors: Mapping[str, torch.Tensor], *, layout: str | None = None) -> None:
    """Write a state dict as `format`. layout: the key a PyTorch file keeps it under; None for a flat one.

    Raises: CheckpointError when the place cannot be written.
    """
    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    try:
        if format == "torch":
            torch_files.write(plain, path, layout)
        elif format == "keras":
            keras_hdf5.write(plain, path)
        elif format == "safetensors":
            save_file(plain, path, metadata={"format": "pt"})
        else:
            with path.open("wb") as file:
                (pickles.write_paddle if format == "paddle" else mindspore.write)(plain, file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be written: {error}") from error
