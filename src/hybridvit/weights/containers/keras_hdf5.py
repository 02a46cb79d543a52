"""Keras' HDF5 weights: attribute layer_names lists the layers; each is a group whose attribute weight_names lists its arrays.

Only what Keras writes is followed: hard links to plain, uncompressed arrays of numbers within the file. Links into other
files, arrays stored elsewhere and arrays that unpack to more than the file holds are refused.
"""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hybridvit.errors import CheckpointError
from hybridvit.weights.containers.names import DamagedError

if TYPE_CHECKING:
    import h5py

MAX_NAMES = 20_000
"""Of layers and arrays in one file."""
MAX_DEPTH = 16


def read(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by "layer/name", in the file's order. Of a whole saved model, the weights only.

    Raises: DamagedError, without the file's name; CheckpointError when h5py is missing.
    """
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            root = file
            if "layer_names" not in file.attrs and "layer_names0" not in file.attrs and "model_weights" in file:
                root = _follow(file, "model_weights", h5py.Group)
            tensors: dict[str, torch.Tensor] = {}
            size = left = path.stat().st_size
            names = itertools.count()
            for layer in _names(root, "layer_names", size):
                group = _follow(root, layer, h5py.Group)
                for name in _names(group, "weight_names", size):
                    if next(names) >= MAX_NAMES or f"{layer}/{name}" in tensors:
                        raise DamagedError(f"names {name!r} twice, or more than {MAX_NAMES:,} arrays")
                    dataset = _follow(group, name, h5py.Dataset)
                    left -= dataset.nbytes
                    tensors[f"{layer}/{name}"] = _tensor(dataset, left)
    except CheckpointError:
        raise
    except Exception as error:  # HDF5 reports damage through many types
        raise DamagedError(f"is a truncated or damaged HDF5 file ({type(error).__name__}: {error})") from error
    if not tensors:
        raise DamagedError("is an HDF5 file without Keras' attribute layer_names, or without weights")
    return tensors


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise CheckpointError("Keras files need h5py: pip install 'hybridvit[import]'") from error
    return h5py


def _names(group: "h5py.Group", attribute: str, size: int) -> Iterator[str]:
    """Keras splits a long list into layer_names0, layer_names1, ..."""
    chunks = [attribute] if attribute in group.attrs else []
    while not chunks or chunks[0] != attribute:
        name = f"{attribute}{len(chunks)}"
        if name not in group.attrs:
            break
        chunks.append(name)
    for chunk in chunks:
        stored = group.attrs.get_id(chunk)
        if len(stored.shape) != 1 or stored.shape[0] > MAX_NAMES or stored.get_storage_size() > size:
            raise DamagedError(f"has a damaged attribute {chunk}")
        yield from (name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in group.attrs[chunk])


def _follow(group: "h5py.Group", path: str, kind: type) -> Any:
    """Walk hard links only."""
    h5py = _h5py()
    item: Any = group
    if path.count("/") > MAX_DEPTH:
        raise DamagedError("names an array deeper than any writer of weights does")
    for part in path.split("/"):
        link = item.get(part, getlink=True) if isinstance(item, h5py.Group) else None
        if link is None:
            raise DamagedError(f"names {path!r} in its attributes but does not hold it")
        if not isinstance(link, h5py.HardLink):
            raise DamagedError(f"has a link at {path!r} that leads elsewhere; weights must lie in the file itself")
        item = item[part]
    if not isinstance(item, kind):
        raise DamagedError(f"holds something other than expected at {path!r}")
    return item


def _tensor(dataset: "h5py.Dataset", left: int) -> torch.Tensor:
    if dataset.external or dataset.is_virtual:
        raise DamagedError(f"keeps {dataset.name!r} in another file; weights must lie in the file itself")
    if dataset.dtype.kind not in "fiub":
        raise DamagedError(f"holds {dataset.name!r} of type {dataset.dtype}, which is not a number")
    if left < 0 or dataset.id.get_storage_size() < dataset.nbytes or dataset.id.get_create_plist().get_nfilters():
        raise DamagedError(f"claims more numbers at {dataset.name!r} than it holds: cut short, compressed or altered")
    return torch.from_numpy(dataset[()].astype(dataset.dtype.newbyteorder("="), copy=False).reshape(dataset.shape))


def write(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """As Keras' save_weights: `tensors` by "layer/name", layers in the order given."""
    h5py = _h5py()
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        layer, _, name = key.partition("/")
        layers.setdefault(layer, {})[name] = tensor
    try:
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = np.array([layer.encode() for layer in layers])
            file.attrs["backend"] = b"tensorflow"
            for layer, weights in layers.items():
                group = file.create_group(layer)
                group.attrs["weight_names"] = np.array([name.encode() for name in weights])
                for name, tensor in weights.items():
                    group.create_dataset(name, data=tensor.numpy())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error}") from error
