"""Good weights beside things that are not built: paths, options, random states, prefixes of other frameworks."""

import argparse
import collections
import datetime
import pathlib
import pickle
import random
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import foreign
from hybridvit.errors import CheckpointError
from hybridvit.models import catalog
from hybridvit.weights import containers
from hybridvit.weights.load import inspect, load
from hybridvit.weights.tables import PUBLISHED
from support import randomise


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    model = randomise(catalog.create("cvt_nano", num_classes=3)).float()
    return foreign.tensors(foreign.stored_as(PUBLISHED["microsoft"], model))


def assert_opens(path: Path, state: dict[str, torch.Tensor]) -> None:
    stored = torch.cat([tensor.flatten() for tensor in load(path).state_dict().values()])
    expected = torch.cat([tensor.flatten() for tensor in state.values()])
    assert float(stored.double().sum()) == float(expected.double().sum())


class Config(dict[str, Any]):
    """As omegaconf's, easydict's, yacs' and Lightning's: a dictionary with attributes and a state."""

    def __init__(self, **items: Any) -> None:
        super().__init__(items)
        self.__dict__.update(items)
        self.kind = Any


class Options:
    """A trainer's own class."""

    def __init__(self) -> None:
        self.lr, self.hidden = 0.1, [1, 2]


class Canary:
    """Runs where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("built")


BESIDE: dict[str, Any] = {
    "PosixPath": pathlib.PosixPath("/data/imagenet"),
    "PurePath": pathlib.PurePosixPath("a/b"),
    "numpy random state": np.random.default_rng(0),
    "numpy legacy random state": np.random.RandomState(0).get_state(),
    "numpy legacy generator": np.random.RandomState(0),
    "torch random state": torch.get_rng_state(),
    "random state": random.Random(0).getstate(),
    "numpy scalar": np.float64(0.5),
    "numpy array": np.arange(5),
    "numpy array of text": np.array(["a", "b"]),
    "numpy array of objects": np.array([None, {"a": 1}], dtype=object),
    "numpy dtype": np.dtype("float32"),
    "Namespace": argparse.Namespace(lr=0.1, path=pathlib.PosixPath("x"), kind=float),
    "SimpleNamespace": types.SimpleNamespace(a=1),
    "a configuration that is a dictionary": Config(lr=0.1, nested=Config(a=1)),
    "an object of a class of the trainer's": Options(),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "Counter": collections.Counter("aab"),
    "deque": collections.deque([1, 2]),
    "set": {1, "a"},
    "frozenset": frozenset({1, 2}),
    "datetime": datetime.datetime(2026, 1, 1),
    "timedelta": datetime.timedelta(seconds=3),
    "complex": 1j,
    "torch dtype": torch.float16,
    "torch device": torch.device("cpu"),
    "torch Size": torch.Size([1, 2]),
    "a class": dict,
    "typing": Any,
    "text that is no text": "\udcff",
    "Parameter": nn.Parameter(torch.ones(2)),
    "scheduler": torch.optim.lr_scheduler.ConstantLR(torch.optim.SGD([torch.ones(1)], lr=0.1)).state_dict(),
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("beside", BESIDE)
def test_what_lies_beside_good_weights_is_left_unbuilt(
    tmp_path: Path, state: dict[str, torch.Tensor], beside: str, protocol: int
) -> None:
    torch.save({"state_dict": state, "hyper_parameters": BESIDE[beside]}, tmp_path / "x.ckpt", pickle_protocol=protocol)
    assert_opens(tmp_path / "x.ckpt", state)
    assert "hyper_parameters" in inspect(tmp_path / "x.ckpt").beside


def test_the_same_holds_in_older_files_and_in_paddles(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    tree = {"state_dict": state, **BESIDE}
    torch.save(tree, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    assert_opens(tmp_path / "x.pth", state)
    arrays = {key: tensor.numpy() for key, tensor in state.items()}
    plain = {name: value for name, value in BESIDE.items() if "torch" not in name and name != "Parameter"}
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps({"model": arrays, **plain}, protocol=2))
    tree = containers.read(tmp_path / "x.pdparams").tree
    assert all(torch.equal(tree["model"][key], tensor) for key, tensor in state.items())


def test_nothing_that_stands_in_is_ever_built_or_imported(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    module = types.ModuleType("a_module_of_a_stranger")
    exec("class Thing:\n    def __setstate__(self, state): raise AssertionError('built')", module.__dict__)
    sys.modules[module.__name__] = module
    thing = module.Thing()
    thing.path = "x"
    torch.save({"state_dict": state, "thing": thing}, tmp_path / "x.pth")
    del sys.modules[module.__name__]
    assert_opens(tmp_path / "x.pth", state)
    assert module.__name__ not in sys.modules
    assert inspect(tmp_path / "x.pth").beside["thing"] == "a a_module_of_a_stranger.Thing, left unbuilt"
    torch.save({"state_dict": state, "thing": Canary(tmp_path / "canary")}, tmp_path / "y.pth")
    with pytest.raises(CheckpointError, match=r"asks for builtins\.getattr"):
        load(tmp_path / "y.pth")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("prefix", ["net.", "model.", "network.", "model.net.", "module.model."])
def test_lightnings_prefixes_are_taken_off(tmp_path: Path, state: dict[str, torch.Tensor], prefix: str) -> None:
    tree = {
        "state_dict": {prefix + key: tensor for key, tensor in state.items()},
        "pytorch-lightning_version": "2.0",
        "hyper_parameters": Config(data=pathlib.PosixPath("/data")),
    }
    torch.save(tree, tmp_path / "x.ckpt")
    assert_opens(tmp_path / "x.ckpt", state)


def test_a_state_dict_of_another_dictionary_class_opens(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(Config(state_dict=Config(**state)), tmp_path / "x.pth")
    assert_opens(tmp_path / "x.pth", state)


def test_parameters_and_views_open_as_their_numbers(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    shared = torch.cat([tensor.float().flatten() for tensor in state.values()])
    views, place = {}, 0
    for key, tensor in state.items():
        view = shared[place : place + tensor.numel()].view(tensor.shape)
        views[key] = nn.Parameter(view) if tensor.is_floating_point() else tensor
        place += tensor.numel()
    first = next(key for key, tensor in state.items() if tensor.dim() == 2)
    views[first] = state[first].t().contiguous().t()
    for legacy in (True, False):
        torch.save(views, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
        found = containers.read(tmp_path / "x.pth").tree
        assert all(torch.equal(found[key], tensor) for key, tensor in state.items())


def test_files_of_big_endian_machines_are_turned_round(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(3.0), "b": torch.arange(5, dtype=torch.int16)}, tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "x.pth") as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    sizes = {"0": 4, "1": 2}
    with zipfile.ZipFile(tmp_path / "big.pth", "w") as archive:
        for name, content in entries.items():
            last = name.rpartition("/")[2]
            if "/data/" in name:
                content = np.frombuffer(content, f"<i{sizes[last]}").byteswap().tobytes()
            archive.writestr(name, b"big" if last == "byteorder" else content)
    found = containers.read(tmp_path / "big.pth").tree
    assert found["a"].tolist() == [0, 1, 2]
    assert found["b"].tolist() == [0, 1, 2, 3, 4]


def test_a_whole_pickled_model_of_ones_own_class_says_what_to_save(tmp_path: Path) -> None:
    torch.save(Options(), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"holds a whole pickled .*Options, not .*torch\.save\(model\.state_dict"):
        load(tmp_path / "x.pth")
