"""What weights/ takes from other libraries without a promise of theirs; each test names the file that breaks."""

import inspect
import io
import pickle
import zipfile
from pathlib import Path

import torch
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import http_get

from hybridvit.weights.containers import pickles

MACHINE = "weights/containers/pickles.py: pickle._Unpickler, the interpreter in Python, "


def test_pickles_machine_is_built_as_it_is_replaced() -> None:
    names = [name for name in vars(pickles.Machine) if name.startswith("load_")]
    ours = {"load_bytes", "load_text", "load_refused"}
    lacking = [name for name in names if name not in ours and not hasattr(pickle._Unpickler, name)]
    assert not lacking, f"{MACHINE}has no {lacking}"
    machine = pickle._Unpickler(io.BytesIO(pickle.dumps((1, [2], {3: 4}))))
    assert machine.load() == (1, [2], {3: 4})
    lacking = [
        name for name in ("stack", "metastack", "append", "read", "readinto", "readline") if not hasattr(machine, name)
    ]
    assert not lacking, f"{MACHINE}keeps its state elsewhere than in {lacking}"


def test_every_opcode_of_pickle_is_known_to_the_machine() -> None:
    """A new opcode that calls or hashes would otherwise run as the standard library runs it."""
    names = [name for name in pickle.__all__ if name.isupper() and isinstance(getattr(pickle, name), bytes)]
    opcodes = {getattr(pickle, name)[0] for name in names if len(getattr(pickle, name)) == 1}
    replaced = {
        code
        for code, function in pickles.Machine.dispatch.items()
        if function is not pickle._Unpickler.dispatch.get(code)
    }
    harmless = {
        *(pickle.POP, pickle.POP_MARK, pickle.DUP, pickle.STOP, pickle.PROTO, pickle.FRAME, pickle.MEMOIZE, pickle.PUT),
        *(
            pickle.BINPUT,
            pickle.LONG_BINPUT,
            pickle.GET,
            pickle.BINGET,
            pickle.LONG_BINGET,
            pickle.NONE,
            pickle.NEWTRUE,
        ),
        *(
            pickle.NEWFALSE,
            pickle.INT,
            pickle.BININT,
            pickle.BININT1,
            pickle.BININT2,
            pickle.LONG,
            pickle.LONG1,
            pickle.LONG4,
        ),
        *(pickle.FLOAT, pickle.BINFLOAT, pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.EMPTY_LIST),
        *(
            pickle.LIST,
            pickle.EMPTY_DICT,
            pickle.EMPTY_TUPLE,
            pickle.TUPLE,
            pickle.TUPLE1,
            pickle.TUPLE2,
            pickle.TUPLE3,
        ),
        *(pickle.EMPTY_SET, pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.PERSID, pickle.BINPERSID),
    }
    unknown = opcodes - replaced - {code[0] for code in harmless}
    assert not unknown, f"{MACHINE}has opcodes that nobody looked at: {[bytes([code]) for code in unknown]}"


def test_torch_still_writes_what_is_read(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(6.0).reshape(2, 3)}, tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "x.pth") as archive:
        entries = {name.partition("/")[2] for name in archive.namelist()}
        program = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    where = "weights/containers/torch_files.py: torch.save "
    assert {"data.pkl", "byteorder", "data/0"} <= entries, f"{where}names its parts otherwise: {entries}"
    assert b"ctorch._utils\n_rebuild_tensor_v2\n" in program, f"{where}rebuilds tensors otherwise"
    assert b"ctorch\nFloatStorage\n" in program, f"{where}calls its storages otherwise"


def test_the_hubs_client_continues_downloads_as_it_did() -> None:
    where = "weights/fetch.py: huggingface_hub"
    assert {"url", "temp_file", "resume_size"} <= inspect.signature(http_get).parameters.keys(), f"{where}'s http_get"
    assert isinstance(constants.ENDPOINT, str), f"{where}.constants.ENDPOINT"
    assert isinstance(constants.HF_HUB_OFFLINE, bool), f"{where}.constants.HF_HUB_OFFLINE"
    assert "response" in inspect.signature(HfHubHTTPError).parameters, f"{where}'s errors carry no response"
