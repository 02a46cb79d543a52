"""Opening files safely: what is no weights file says so, what would run code does not, what is damaged is refused in one line."""

import argparse
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import foreign
from hybridvit.cli.main import main
from hybridvit.errors import CheckpointError
from hybridvit.weights import containers
from hybridvit.weights.load import load

ARRAYS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.float32([1, 2]), "n": np.array(7)}


def refusal(path: Path) -> str:
    """The message about a file that is refused: one line that names it."""
    with pytest.raises(CheckpointError) as caught:
        containers.read(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


# ---- what opens -------------------------------------------------------------------------------------------------------------


def write_torch(path: Path, arrays: foreign.Arrays) -> None:
    torch.save(foreign.tensors(arrays), path)


def write_legacy_torch(path: Path, arrays: foreign.Arrays) -> None:
    torch.save(foreign.tensors(arrays), path, _use_new_zipfile_serialization=False)


def write_safetensors(path: Path, arrays: foreign.Arrays) -> None:
    save_file(foreign.tensors(arrays), path)


def write_keras(path: Path, arrays: foreign.Arrays) -> None:
    foreign.write_keras(path, {key.replace(".", "/"): array for key, array in arrays.items() if key != "n"})


def write_mindspore(path: Path, arrays: foreign.Arrays) -> None:
    foreign.write_mindspore(path, {key: np.asarray(array).astype("f4") for key, array in arrays.items()})


WRITERS: dict[str, Callable[[Path, foreign.Arrays], None]] = {
    "torch": write_torch,
    "legacy torch": write_legacy_torch,
    "paddle": foreign.write_paddle,
    "safetensors": write_safetensors,
    "keras": write_keras,
    "mindspore": write_mindspore,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_is_told_by_its_bytes_and_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "weights.dat"
    WRITERS[kind](path, ARRAYS)
    contents = containers.read(path)
    assert contents.format == kind.removeprefix("legacy ")
    found = {key.replace("/", "."): value for key, value in contents.tree.items() if isinstance(value, torch.Tensor)}
    assert set(found) == (set(ARRAYS) - {"n"} if kind == "keras" else set(ARRAYS))
    for key, tensor in found.items():
        assert tensor.shape == np.shape(ARRAYS[key])
        np.testing.assert_array_equal(tensor.numpy(), ARRAYS[key])


@pytest.mark.parametrize("format", containers.FORMATS)
def test_what_we_write_is_read_by_the_sources_own_libraries(tmp_path: Path, format: str) -> None:
    arrays = {"a/weight" if format == "keras" else "a.weight": ARRAYS["a.weight"]}
    containers.write(tmp_path / "out", format, foreign.tensors(arrays))
    written = foreign.read_back(tmp_path / "out", format)
    assert set(written) == set(arrays)
    assert all(np.array_equal(written[key], array) for key, array in arrays.items())


def test_options_and_numpy_scalars_beside_the_weights_are_inert(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    tree = {
        "args": argparse.Namespace(lr=0.1, model="cmt_s"),
        "best": np.float64(0.5),
        "model": foreign.tensors(ARRAYS),
    }
    torch.save(tree, path)
    options = containers.read(path).tree["args"]
    assert vars(options) == {"lr": 0.1, "model": "cmt_s"}


def test_paddle_values_of_nested_dictionaries_lose_their_inner_names(tmp_path: Path) -> None:
    nested = {"model": {"w": ("linear_0.w_0", ARRAYS["a.weight"])}, "epoch": 3}
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps(nested, protocol=4))
    tree = containers.read(tmp_path / "x.pdparams").tree
    np.testing.assert_array_equal(tree["model"]["w"].numpy(), ARRAYS["a.weight"])


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
@pytest.mark.parametrize(
    "array", [np.asfortranarray(ARRAYS["a.weight"]), ARRAYS["a.weight"].astype(">f4")], ids=["F", ">"]
)
def test_arrays_of_either_numpy_and_any_layout_are_read(tmp_path: Path, module: bytes, array: np.ndarray) -> None:
    program = pickle.dumps({"w": array, "s": np.zeros(0, np.float16)}, protocol=3)
    program = program.replace(b"numpy._core.multiarray", module)
    (tmp_path / "x.pdparams").write_bytes(program)
    tree = containers.read(tmp_path / "x.pdparams").tree
    np.testing.assert_array_equal(tree["w"].numpy(), array)
    assert tree["s"].dtype == torch.float16


def test_mindspore_slices_scalars_and_checksums_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    foreign.write_mindspore(path, {"w": np.arange(10, dtype=np.float32).reshape(5, 2)}, slices=3)
    with path.open("ab") as file:
        file.write(b"crc_num" + bytes(10))
    np.testing.assert_array_equal(containers.read(path).tree["w"].numpy(), np.arange(10).reshape(5, 2))
    foreign.write_mindspore(path, {"step": np.float32(3)})
    assert containers.read(path).tree["step"].shape == ()


def test_a_whole_saved_keras_model_gives_its_weights(tmp_path: Path) -> None:
    foreign.write_keras(tmp_path / "weights.h5", {"a/kernel:0": ARRAYS["a.weight"]})
    with h5py.File(tmp_path / "weights.h5") as source, h5py.File(tmp_path / "model.h5", "w") as target:
        source.copy(source, target, "model_weights")
        target.attrs["model_config"] = "{}"
    assert list(containers.read(tmp_path / "model.h5").tree) == ["a/kernel:0"]


def test_long_keras_lists_are_put_together(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for n in range(2):
            file.attrs[f"layer_names{n}"] = np.array([f"layer{n}".encode()])
            file.create_group(f"layer{n}").attrs["weight_names"] = np.array([b"kernel:0"])
            file[f"layer{n}"]["kernel:0"] = np.float32([n])
    assert list(containers.read(tmp_path / "x.h5").tree) == ["layer0/kernel:0", "layer1/kernel:0"]


# ---- what is no weights file ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html>\n<title>404</title>", "is a web page"),
        (b"\n\n <HTML>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        ("Gewichte, größtenteils\n".encode(), "is a text file"),
        (b"\x1f\x8b\x08" + bytes(40), "is a gzip archive"),
        (b"%PDF-1.7" + bytes(20), "is a PDF"),
        (b"\xfe\xed\xfa\xce" * 20, "is of no known format"),
        (struct.pack("<Q", 10**12) + b'{"a":', "announces a header of 1000000000000 bytes"),
        (struct.pack("<Q", 5000) + b'{"a":', "even its header is incomplete"),
        (struct.pack("<Q", 9) + b'{"a": []}', "truncated or damaged safetensors"),
        (b"PK\x03\x04" + bytes(60), r"truncated or damaged PyTorch \(zip\)"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "truncated or damaged HDF5"),
        (b"\x80\x04\x95" + bytes(60), "damaged pickle"),
        (b"\x80\x02]q\x00.", "holds a list, not a dictionary"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(20), "cut short"),
    ],
)
def test_what_is_no_weights_file_gets_one_clear_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "cvt_13.pth"
    path.write_bytes(content)
    assert re.search(message, refusal(path))


def test_folders_missing_files_and_devices_say_what_they_are(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "none.pth")
    assert "is not a regular file" in refusal(Path("/dev/null"))


def test_other_zip_archives_say_what_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.ones(2))
    assert "NumPy archive" in refusal(tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", "")
    assert "Keras 3 archive" in refusal(tmp_path / "x.keras")
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(100_000))
    assert "compressed zip archive" in refusal(tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("model/data.pkl", "")
        archive.writestr("model/constants.pkl", "")
    assert "TorchScript" in refusal(tmp_path / "x.pt")


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_cut_short_anywhere_is_refused_or_opens_whole(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "weights.dat"
    WRITERS[kind](path, {"a.weight": np.zeros((30, 40), np.float32)})
    whole = path.read_bytes()
    for length in sorted({1, 2, 7, 9, 20, 60, len(whole) // 3, len(whole) // 2, len(whole) - 100, len(whole) - 1}):
        path.write_bytes(whole[:length])
        message = refusal(path)
        assert any(
            word in message for word in ("cut short", "truncated", "damaged", "no known format", "not weights")
        ), message


# ---- what would run code ----------------------------------------------------------------------------------------------------


class Evil:
    """Pickles to a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Any, Any]:
        return self.call


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def payloads(canary: Path) -> dict[str, bytes]:
    """Programs that would make the file `canary`, in every way that pickle offers."""
    touch = f"touch {canary}"
    python = f"open({str(canary)!r}, 'w').close()"
    call = short(touch) + b"\x85R"
    return {
        "os.system": pickle.dumps({"w": Evil(os.system, touch)}, protocol=4),
        "os.system, protocol 0": b"cos\nsystem\n(S'" + touch.encode() + b"'\ntR.",
        "os.system, protocol 2": pickle.dumps({"w": Evil(os.system, touch)}, protocol=2),
        "builtins.eval": pickle.dumps({"w": Evil(eval, python)}, protocol=4),
        "builtins.exec": pickle.dumps([Evil(exec, python)], protocol=3),
        "old name of builtins": b"\x80\x02c__builtin__\neval\n(" + short(python) + b"tR.",
        "subprocess": pickle.dumps({"w": Evil(subprocess.Popen, ["touch", str(canary)])}, protocol=4),
        "nested": pickle.dumps({"a": [({"b": (1, [Evil(os.system, touch)])},)], "w": np.ones(2)}, protocol=4),
        "behind an array": pickle.dumps({"w": np.ones(3, np.float32), "x": Evil(os.system, touch)}, protocol=4),
        "inside an object array": pickle.dumps({"w": np.array([Evil(os.system, touch)], dtype=object)}, protocol=4),
        "a pickle in a pickle": pickle.dumps(Evil(pickle.loads, pickle.dumps(Evil(os.system, touch))), protocol=4),
        "getattr": pickle.dumps({"w": Evil(getattr, "x", "join")}, protocol=4),
        "import": pickle.dumps({"w": Evil(__import__, "antigravity")}, protocol=4),
        "INST": b"(S'" + touch.encode() + b"'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nS'" + touch.encode() + b"'\no.",
        "STACK_GLOBAL": b"\x80\x04" + short("posix") + short("system") + b"\x93" + call + b".",
        "dotted name": b"\x80\x04" + short("collections") + short("OrderedDict.__init__.__globals__") + b"\x93.",
        "dots in the module": b"\x80\x04" + short("os.path.os") + short("system") + b"\x93" + call + b".",
        "array of a strange class": b"\x80\x04"
        + short("numpy.core.multiarray")
        + short("_reconstruct")
        + b"\x93("
        + short("os")
        + short("system")
        + b"\x93K\x00\x85C\x01btR.",
        "allowed class, forged state": b"\x80\x04"
        + short("collections")
        + short("OrderedDict")
        + b"\x93}"
        + short("__setstate__")
        + short("x")
        + b"sb.",
        "extension registry": b"\x80\x02\x82\x01.",
        "persistent id": b"\x80\x02" + short("module") + b"\x85Q.",
        "memo bomb": b"\x80\x02]r\xff\xff\xff\x7f.",
        "length bomb": b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00.",
        "hash bomb": b"\x80\x02}K\x01\x85" + b"2\x86" * 60 + b"K\x01s.",
    }


def as_zip(path: Path, program: bytes) -> None:
    """What torch.save writes, with another program."""
    torch.save({"w": torch.ones(2)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, program if name.endswith("data.pkl") else content)


def as_legacy(path: Path, program: bytes) -> None:
    stream = io.BytesIO()
    torch.save({"w": torch.ones(2)}, stream, _use_new_zipfile_serialization=False)
    reader = io.BytesIO(stream.getvalue())
    for _ in range(3):  # magic number, protocol, sizes
        pickle.load(reader)
    path.write_bytes(stream.getvalue()[: reader.tell()] + program)


def as_legacy_header(path: Path, program: bytes) -> None:
    """In the place of a legacy file's second pickle."""
    magic = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)
    path.write_bytes(magic + program)


def as_pickle(path: Path, program: bytes) -> None:
    path.write_bytes(program if program[0] == 0x80 else b"\x80\x02" + program)


@pytest.mark.parametrize("payload", ["os.system", "os.system, protocol 0", "builtins.eval", "nested", "INST", "OBJ"])
def test_the_payloads_are_real(tmp_path: Path, payload: str) -> None:
    pickle.loads(payloads(tmp_path / "canary")[payload])
    assert (tmp_path / "canary").exists()


DOORS = {"zip": as_zip, "legacy": as_legacy, "legacy header": as_legacy_header, "paddle": as_pickle}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("payload", payloads(Path("x")))
def test_no_file_runs_code(tmp_path: Path, door: str, payload: str, capsys: pytest.CaptureFixture[str]) -> None:
    canary, path = tmp_path / "canary", tmp_path / "weights.pth"
    DOORS[door](path, payloads(canary)[payload])
    refusal(path)
    assert main(["inspect", str(path)]) == 2
    assert main(["convert", str(path), str(tmp_path / "out.safetensors")]) == 2
    with pytest.raises(CheckpointError):
        load(path)
    assert not canary.exists()
    assert "antigravity" not in sys.modules
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("door", ["zip", "legacy", "paddle"])
def test_the_name_that_a_file_asks_for_is_shown(tmp_path: Path, door: str) -> None:
    for payload, asked in (("os.system", "posix.system"), ("builtins.eval", "builtins.eval")):
        DOORS[door](tmp_path / "x.pth", payloads(tmp_path / "canary")[payload])
        message = refusal(tmp_path / "x.pth")
        assert f"asks for {asked}" in message
        assert "was not opened" in message


def test_a_whole_pickled_model_is_refused_with_the_way_out(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    message = refusal(tmp_path / "model.pth")
    assert "asks for torch.nn.modules.linear.Linear" in message
    assert "torch.save(model.state_dict(), ...)" in message


def test_a_tensor_that_claims_more_than_its_storage_is_refused(tmp_path: Path) -> None:
    """A view of one number as a trillion would fill the memory of whoever copies it."""
    torch.save({"w": torch.ones(1).expand(10**6, 10**6)}, tmp_path / "x.pth")
    assert "claims more elements than its storage holds" in refusal(tmp_path / "x.pth")


def test_an_array_whose_shape_and_bytes_disagree_is_refused(tmp_path: Path) -> None:
    program = pickle.dumps({"w": np.ones(4, np.float32)}, protocol=4).replace(b"K\x04\x85", b"K\x05\x85")
    (tmp_path / "x.pdparams").write_bytes(program)
    assert "contradict each other" in refusal(tmp_path / "x.pdparams")


# ---- HDF5 has doors of its own ----------------------------------------------------------------------------------------------


def keras_with(path: Path, fill: Callable[[h5py.Group], None]) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"a"])
        group = file.create_group("a")
        group.attrs["weight_names"] = np.array([b"kernel:0"])
        fill(group)
    return path


def test_hdf5_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    secret = keras_with(tmp_path / "secret.h5", lambda group: group.create_dataset("kernel:0", data=[1.0]))

    def link_outside(group: h5py.Group) -> None:
        group["kernel:0"] = h5py.ExternalLink(str(secret), "a/kernel:0")

    def link_inside(group: h5py.Group) -> None:
        group["kernel:0"] = h5py.SoftLink("/elsewhere")

    for n, fill in enumerate((link_outside, link_inside)):
        assert "leads elsewhere" in refusal(keras_with(tmp_path / f"{n}.h5", fill))


def test_hdf5_arrays_kept_in_other_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(80))

    def external(group: h5py.Group) -> None:
        group.create_dataset("kernel:0", (10,), "f8", external=[(str(tmp_path / "secret"), 0, 80)])

    assert "in another file" in refusal(keras_with(tmp_path / "x.h5", external))


def test_hdf5_arrays_that_unpack_to_more_than_the_file_are_refused(tmp_path: Path) -> None:
    def bomb(group: h5py.Group) -> None:
        group.create_dataset("kernel:0", (10**6, 10**6), "f4", chunks=(1, 1000))

    assert "claims more numbers" in refusal(keras_with(tmp_path / "x.h5", bomb))


def test_hdf5_of_text_or_objects_is_refused(tmp_path: Path) -> None:
    path = keras_with(tmp_path / "x.h5", lambda group: group.create_dataset("kernel:0", data=[b"text"]))
    assert "which is not a number" in refusal(path)


def test_hdf5_of_other_programs_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data"] = [1.0]
    assert "without Keras' attribute layer_names" in refusal(tmp_path / "x.h5")


# ---- damage -----------------------------------------------------------------------------------------------------------------


def test_files_damaged_at_random_never_crash_hang_or_fill_the_memory() -> None:
    """A small run of the fuzzer; benchmarks/ has the figures of a large one."""
    fuzzer = Path(__file__).parents[2] / "benchmarks" / "fuzz_weights.py"
    run = subprocess.run([sys.executable, str(fuzzer), "--files", "120"], capture_output=True, text=True, check=True)
    result = json.loads(run.stdout[run.stdout.index("{\n") :])
    assert result["failures"] == []
    assert sum(sum(counts.values()) for counts in result["outcomes"].values()) == 120
