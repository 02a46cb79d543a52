"""Weights, gradients and optimizer split over the ranks (FSDP2), and their state on disk, a piece per rank.

Differs from the textbook: weights travel in float32 and autocast lowers them where they are used, as on one device.
FSDP2's own mixed precision would lower BatchNorm's, too, next to statistics in float32, and torch refuses the pair.

A state is a folder, state-STEP/: the tensors as torch.distributed.checkpoint writes them, which any number of ranks can
read; rest.pt with everything else; and sha256, the sums of all these files. It appears complete or not at all.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from hybridvit.errors import ConfigError
from hybridvit.files import digest, sync
from hybridvit.runtime import Ranks
from hybridvit.training.state import REST, SUMS, drop_old_states, remove_state, save_file

Key = tuple[Any, ...]
"""Where a tensor stands in a nested state."""


def shard(model: nn.Module, *, device: torch.device, ranks: Ranks) -> None:
    """Leave each rank its piece of every weight. A block is made whole while it works, the rest for the whole step.

    Raises: ConfigError for a model that is no plain backbone.
    """
    stages: Any = getattr(model, "stages", None)
    if stages is None:
        raise ConfigError("run.fsdp splits classifiers; of a detector or segmenter, every device keeps the whole.")
    mesh = init_device_mesh(device.type, (ranks.world,))
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()  # FSDP2 takes no channels-last weights
    for block in [block for stage in stages for block in stage.blocks]:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)


def is_sharded(model: nn.Module) -> bool:
    return isinstance(model, FSDPModule)


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Keep a sharded model whole on every rank, so that each may call it as often as it likes."""
    if not isinstance(model, FSDPModule):
        yield
        return
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.unshard()
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(part is not model, recurse=False)


def whole_weights(model: nn.Module) -> dict[str, Any]:
    """The weights of a sharded model in the memory of rank 0; nothing on the others. Every rank must call this."""
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def clip_gradients(model: nn.Module, max_norm: float) -> Tensor:
    """Shorten the gradient to max_norm; returns the norm it had, over all ranks where they share out the model."""
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def save_shards(folder: Path, step: int, state: dict[str, Any], ranks: Ranks) -> None:
    """Write folder/state-STEP, each rank its piece, then drop all but the newest two. Every rank must call this.

    Raises: OSError where the disk is full or the folder cannot be written. The older states are intact then.
    """
    path = folder / f"state-{step:08d}"
    temporary = folder / f".{path.name}"
    tensors = {_name(key): tensor for key, tensor in _tensors(state)}
    planner = dcp.DefaultSavePlanner(dedup_save_to_lowest_rank=True)  # BatchNorm's statistics are rank 0's, as with DDP
    try:
        with _quietly_alone():
            dcp.save(tensors, checkpoint_id=temporary, planner=planner)  # flushes what it writes
    except CheckpointException as error:  # on every rank, whichever failed
        remove_state(temporary)
        raise OSError(next(iter(error.failures.values()))[0]) from error
    pieces = ranks.gather({file.name: digest(file) for file in temporary.glob(f"__{ranks.rank}_*")})
    problem = ""
    if ranks.is_first:
        try:
            save_file(_without_tensors(state), temporary / REST)
            others = {file.name: digest(file) for file in (temporary / REST, temporary / ".metadata")}
            sums = [f"{found}  {name}\n" for part in (*pieces, others) for name, found in part.items()]
            (temporary / SUMS).write_text("".join(sums))
            for file in (temporary / REST, temporary / SUMS, temporary):
                sync(file)
            remove_state(path)  # of the same step: found damaged, or saved before its evaluation
            temporary.rename(path)
            sync(folder)
            drop_old_states(folder)
        except OSError as error:
            remove_state(temporary)
            problem = str(error)
    problem = ranks.gather(problem)[0]
    if problem:
        raise OSError(problem)


def fill(saved: dict[str, Any], *, model: nn.Module, optimizer: Optimizer, ema: nn.Module | None) -> None:
    """Put into `saved` the tensors that these ranks hold of it: from pieces, into pieces, or both."""
    state = saved["optimizer"]["state"]
    if state:
        get_optimizer_state_dict(model, optimizer)  # for its effect: an optimizer without state gets it, of zeros
    fresh = optimizer.state_dict()["state"]
    template = {
        "model": model.state_dict(),
        "ema": ema.state_dict() if ema else {},
        "optimizer": {"state": {number: fresh[number] for number in state}},
    }
    tensors = dict(_tensors(template))
    if "pieces" in saved:
        named = {_name(key): tensor for key, tensor in tensors.items()}
        with _quietly_alone():
            dcp.load(named, checkpoint_id=saved["pieces"])
    else:
        for key, tensor in tensors.items():
            whole = _at(saved, key[:-1])[key[-1]]
            if isinstance(tensor, DTensor):
                whole = whole.to(tensor.device)
                tensors[key] = distribute_tensor(whole, tensor.device_mesh, tensor.placements, src_data_rank=None)
            else:
                tensors[key] = whole
    for key, tensor in tensors.items():
        _at(saved, key[:-1])[key[-1]] = tensor


@contextmanager
def _quietly_alone() -> Iterator[None]:
    """Without the warning that a single process is taken for a single process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")
        yield


def _tensors(state: Mapping[Any, Any], above: Key = ()) -> Iterator[tuple[Key, Tensor]]:
    for key, value in state.items():
        if isinstance(value, Mapping):
            yield from _tensors(value, (*above, key))
        elif isinstance(value, Tensor):
            yield (*above, key), value


def _without_tensors(state: Mapping[Any, Any]) -> dict[Any, Any]:
    return {
        key: _without_tensors(value) if isinstance(value, Mapping) else value
        for key, value in state.items()
        if not isinstance(value, Tensor)
    }


def _at(state: dict[Any, Any], keys: Key) -> dict[Any, Any]:
    for key in keys:
        state = state[key]
    return state


def _name(key: Key) -> str:
    return "/".join(map(str, key))
