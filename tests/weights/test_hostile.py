"""Files from strangers: a header names sizes and switches only, and no file costs more than its bytes are worth."""

import io
import json
import struct
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hybridvit.errors import CheckpointError, ConfigError
from hybridvit.models import arguments, catalog
from hybridvit.models.configs import CMTConfig, CvTConfig
from hybridvit.weights import checkpoint, containers, identify
from hybridvit.weights.containers import mindspore, names, pickles
from hybridvit.weights.load import inspect, load, read_checkpoint

# ---- what a header says -----------------------------------------------------------------------------------------------------


def crafted(folder: Path, name: str = "cvt_nano", *, told: dict[str, Any] | None = None, **header: Any) -> Path:
    """A checkpoint of ours with `told` among its model_args, and with other header entries."""
    path = folder / "crafted.safetensors"
    checkpoint.save(catalog.create(name, num_classes=3), path)
    with safe_open(path, framework="pt") as file:
        found = json.loads(file.metadata()["hybridvit"])
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    found["model_args"] |= told or {}
    save_file(state, path, metadata={"hybridvit": json.dumps(found | header)})
    return path


@pytest.fixture
def unbuilt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails where a model is built, or anything is fetched."""

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("got as far as the constructor")

    with monkeypatch.context() as patch:
        patch.setattr(catalog, "create", never)
        patch.setattr("socket.socket.connect", never)
        yield


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("cvt_nano", {"pretrained": True, "pretrained_cfg_overlay": {"url": "http://127.0.0.1:9/x.pth"}}),
    ("cvt_nano", {"pretrained_cfg": {"url": "http://127.0.0.1:9/x.pth"}}),
    ("cvt_nano", {"cache_dir": "/tmp"}),
    ("cvt_nano", {"state": {}}),
    ("cvt_nano", {"features_only": True}),
    ("cvt_nano", {"in_chans": 10**13}),
    ("cvt_nano", {"in_chans": 0}),
    ("cvt_nano", {"in_chans": True}),
    ("cvt_nano", {"in_chans": "3"}),
    ("cvt_nano", {"dims": [48, 96, 10**9]}),
    ("cvt_nano", {"dims": [48, 96]}),
    ("cvt_nano", {"dims": [48, [96], 128]}),
    ("cvt_nano", {"depths": [1, 1, 10**9]}),
    ("cvt_nano", {"depths": [-1, 1, 2]}),
    ("cvt_nano", {"heads": [0, 2, 4]}),
    ("cvt_nano", {"heads": [5, 2, 4]}),
    ("cvt_nano", {"embed_kernels": [7, 3, 10**6]}),
    ("cvt_nano", {"mlp_ratio": float("nan")}),
    ("cvt_nano", {"mlp_ratio": 1e300}),
    ("cvt_nano", {"activation": "os.system"}),
    ("cvt_nano", {"drop_path_rate": -0.5}),
    ("cmt_nano", {"img_size": [10**7, 10**7]}),
    ("cmt_nano", {"img_size": [8192, 8192]}),
    ("cmt_nano", {"img_size": [32, 32, 32]}),
    ("cmt_nano", {"img_size": -32}),
    ("cmt_nano", {"img_size": 8}),
    ("cmt_nano", {"position": "offsets", "img_size": [4096, 4096]}),
    ("cmt_nano", {"qkv_bias": 1}),
    ("cmt_nano", {"reductions": [0, 1, 1]}),
    ("cmt_nano", {"head_width": 10**12}),
    ("cmt_nano", {"position": None, "wings": 2}),
]


@pytest.mark.parametrize(("name", "told"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_file_may_name_sizes_and_switches_only_and_only_within_their_ranges(
    tmp_path: Path, name: str, told: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    path = crafted(tmp_path, name, told=told)
    request.getfixturevalue("unbuilt")
    for door in (load, read_checkpoint, inspect):
        with pytest.raises(CheckpointError, match=rf"crafted\.safetensors: {name} cannot be built as the file says"):
            door(path)


@pytest.mark.parametrize("num_classes", [10**13, -1, "3", 3.0, True, None, [3]])
def test_the_number_of_classes_has_a_range(tmp_path: Path, num_classes: Any) -> None:
    with pytest.raises(CheckpointError, match="num_classes must be a whole number from 0 to 1000000"):
        load(crafted(tmp_path, num_classes=num_classes, label_names=None))


def test_sizes_that_the_files_tensors_do_not_have_take_no_memory(tmp_path: Path) -> None:
    path = crafted(tmp_path, num_classes=1_000_000, label_names=None)
    with pytest.raises(CheckpointError, match=r"head\.weight  file \(3, 128\), model \(1000000, 128\)"):
        load(path)


@pytest.mark.parametrize(
    "header",
    [
        {"label_names": ["a", "b", 3]},
        {"label_names": "abc"},
        {"label_names": ["a"]},
        {"label_names": {"0": "a"}},
        {"recipe": "text"},
        {"origin": [1]},
        {"metrics": 3},
        {"model_args": [1]},
        {"model_args": "text"},
        {"pretrained_cfg": {"input_size": [3, 10**9, 10**9]}},
        {"pretrained_cfg": {"input_size": [3, 32, 32], "mean": [float("nan")] * 3}},
        {"pretrained_cfg": {"input_size": [3, 32, 32], "std": [float("inf")] * 3}},
        {"pretrained_cfg": {"input_size": "abc"}},
        {"format": [1]},
        {"architecture": ["cvt_nano"]},
        {"architecture": "retinanet.timm/hf-hub:owner/name"},
        {"architecture": "retinanet.timm/local-dir:/tmp"},
        {"architecture": "hf-hub:owner/name"},
        {"architecture": "../../cvt_nano"},
    ],
    ids=str,
)
def test_every_other_entry_is_checked_too(
    tmp_path: Path, header: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    path = crafted(tmp_path, **header)
    request.getfixturevalue("unbuilt")
    with pytest.raises(CheckpointError, match=r"crafted\.safetensors"):
        load(path)


@pytest.mark.parametrize("said", ["[" * 100_000, '{"format": 1' + "1" * 5000 + "}", "null", "3", '"x"', "[]"])
def test_a_header_of_no_shape_is_called_damaged(tmp_path: Path, said: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"x": torch.ones(1)}, path, metadata={"hybridvit": said})
    with pytest.raises(CheckpointError, match=r"x\.safetensors"):
        load(path)


def test_a_folder_in_timms_layout_is_held_to_the_same(tmp_path: Path) -> None:
    timm.models.save_for_hf(timm.create_model("cvt_nano", num_classes=3), tmp_path, safe_serialization=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model_args"] = {"pretrained": True, "pretrained_cfg_overlay": {"url": "http://127.0.0.1:9/x"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="pretrained is no argument of cvt_nano"):
        load(tmp_path)


@pytest.mark.parametrize("name", catalog.ARCHITECTURES)
def test_everything_published_is_within_the_ranges(name: str) -> None:
    config = catalog.ARCHITECTURES[name].config
    told = {field.name: getattr(config, field.name) for field in fields(config)}
    assert arguments.checked(name, 1000, told) == told


@pytest.mark.parametrize("family", [CvTConfig, CMTConfig])
def test_every_field_of_a_configuration_has_a_rule(family: type) -> None:
    name = "cvt_nano" if family is CvTConfig else "cmt_nano"
    assert {field.name for field in fields(family)} <= arguments.rules_of(name).keys()


def test_a_heads_own_arguments_and_its_backbones_are_known(tmp_path: Path) -> None:
    rules = arguments.rules_of("retinanet_cmt_nano")
    assert {"anchor_scale", "strides", "qkv_bias", "in_chans"} <= rules.keys()
    with pytest.raises(ConfigError, match="pretrained is no argument of semantic_fpn_cvt_nano"):
        arguments.checked("semantic_fpn_cvt_nano", 3, {"pretrained": True})


# ---- bounded work -----------------------------------------------------------------------------------------------------------

NESTED = b"K\x01\x85" + b"2\x86" * 60  # a tuple of itself twice, sixty times: hashing it takes 2**60 steps
LONG = b"\x8a\xfe" + b"\x7f" * 254  # a whole number of 2032 bits
PICKLES = {
    "set of nested tuples": b"cbuiltins\nset\n" + NESTED + b"\x85\x85R.",
    "frozenset of nested tuples": b"cbuiltins\nfrozenset\n" + NESTED + b"\x85\x85R.",
    "OrderedDict of nested tuples": b"ccollections\nOrderedDict\n" + NESTED + b"K\x01\x86\x85\x85R.",
    "dict of nested tuples": b"cbuiltins\ndict\n" + NESTED + b"K\x01\x86\x85\x85R.",
    "defaultdict of nested tuples": b"ccollections\ndefaultdict\nN" + NESTED + b"K\x01\x86\x85\x86R.",
    "Counter of nested tuples": b"ccollections\nCounter\n)\x81" + NESTED + b"K\x01s.",
    "EMPTY_SET": b"\x8f(" + NESTED + b"\x90.",
    "FROZENSET": b"(" + NESTED + b"\x91.",
    "SETITEM": b"}" + NESTED + b"K\x01s.",
    "DICT": b"(" + NESTED + b"K\x01d.",
    "keys of two thousand bits": LONG + b"q\x000}" + b"h\x00Ns" * 1000 + b".",
    "a list copied again and again": b"]q\x00("
    + b"K\x01" * 50_000
    + b"e0(cbuiltins\nlist\nq\x01"
    + b"h\x01h\x00\x85R" * 500
    + b"l.",
    "text encoded again and again": b"X\x40\x0d\x03\x00"
    + b"a" * 200_000
    + b"q\x000("
    + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 200
    + b"l.",
    "marks": b"(" * 100_000 + b".",
    "operations": b"(" + b"N" * 2_100_000 + b"l.",
}


@pytest.mark.parametrize("program", PICKLES.values(), ids=PICKLES)
@pytest.mark.parametrize("door", ["paddle", "torch"])
def test_a_small_pickle_costs_little(program: bytes, door: str, tmp_path: Path) -> None:
    """Without the bounds these take hours, or all memory."""
    path = tmp_path / "x.pdparams"
    if door == "paddle":
        path.write_bytes(b"\x80\x02" + program)
    else:
        torch.save({"w": torch.ones(1)}, path, _use_new_zipfile_serialization=False)
        whole = path.read_bytes()
        reader = io.BytesIO(whole)
        for _ in range(3):
            pickles.run(pickles.Machine(reader, len(whole)))
        path.write_bytes(whole[: reader.tell()] + b"\x80\x02" + program)
    with pytest.raises(CheckpointError) as caught:
        containers.read(path)
    assert any(
        word in str(caught.value)
        for word in ("neither text nor a number", "again and again", "deep", "more than any weights need")
    )


def test_arrays_that_share_bytes_to_be_swapped_are_copied_a_few_times_only(tmp_path: Path) -> None:
    raw = b"B" + (400_000).to_bytes(4, "little") + bytes(400_000)
    dtype = b"cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R(K\x03X\x01\x00\x00\x00>NNNK\x00K\x00K\x00tb"
    build = b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01J\xa0\x86\x01\x00\x85h\x01\x89h\x00tb"
    (tmp_path / "x.pdparams").write_bytes(b"\x80\x03" + raw + b"q\x000" + dtype + b"q\x010(" + build * 50 + b"l.")
    with pytest.raises(CheckpointError, match="again and again"):
        containers.read(tmp_path / "x.pdparams")


@pytest.mark.parametrize("shape", [(1 << 62,) * 2, (-1,), (1,) * 40, "ab"])
def test_impossible_shapes_are_refused(shape: Any) -> None:
    with pytest.raises(names.DamagedError, match="impossible shape"):
        names.num_elements(shape)


def test_many_fields_of_a_mindspore_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mindspore, "MAX_FIELDS", 1000)
    empty = b"\x0a\x06\x0a\x00\x12\x02\x12\x00"
    (tmp_path / "x.ckpt").write_bytes(empty * 400)
    with pytest.raises(CheckpointError, match="more than 1,000 fields"):
        containers.read(tmp_path / "x.ckpt")


def test_hdf5_attributes_that_claim_much_or_repeat_names_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "twice.h5", "w") as file:
        file.attrs["layer_names"] = [b"a"]
        group = file.create_group("a")
        group.attrs["weight_names"] = [b"w"] * 3000
        group["w"] = np.zeros(0)
    with pytest.raises(CheckpointError, match="names 'w' twice"):
        containers.read(tmp_path / "twice.h5")
    with h5py.File(tmp_path / "many.h5", "w") as file:
        file.attrs["layer_names"] = np.zeros(30_000, "S1")
    with pytest.raises(CheckpointError, match="damaged attribute layer_names"):
        containers.read(tmp_path / "many.h5")
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        file.attrs["layer_names"] = [b"a" + b"/a" * 100]
        group = file.create_group("a")
        group["a"] = group
    with pytest.raises(CheckpointError, match="deeper than any writer"):
        containers.read(tmp_path / "deep.h5")
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        file.attrs["layer_names"] = [b"a"]
        group = file.create_group("a")
        group.attrs["weight_names"] = [b"w"]
        group.create_dataset("w", data=np.random.default_rng(0).random(10), fletcher32=True)
    with pytest.raises(CheckpointError, match="compressed or altered"):
        containers.read(tmp_path / "packed.h5")


def test_more_tensors_than_any_model_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(2000)}
    header = json.dumps(entries).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    monkeypatch.setattr(identify, "MAX_TENSORS", 1000)
    with pytest.raises(CheckpointError, match="holds 2,000 tensors, more than any model here"):
        load(tmp_path / "x.safetensors")
    monkeypatch.setattr(containers, "MAX_SAFETENSORS", 1000)
    with pytest.raises(CheckpointError, match="holds 2,000 tensors, more than any model"):
        load(tmp_path / "x.safetensors")


def test_a_name_of_prefixes_is_not_taken_apart_for_ever() -> None:
    prefix, _ = identify.strip_prefixes({"module." * 100_000 + "x": torch.ones(1)})
    assert prefix == "module." * identify.MAX_PREFIXES


def test_huge_numbers_beside_the_weights_are_described_not_printed(tmp_path: Path) -> None:
    torch.save(OrderedDict(epoch=10**5000, nested={"a": 10**5000}), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="holds no weights"):
        load(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "change", [{"crop_pct": 1e-300}, {"crop_pct": 0.001}, {"input_size": [3, 8192, 8192]}], ids=str
)
def test_a_file_does_not_ask_for_pictures_beyond_measure(tmp_path: Path, change: dict[str, Any]) -> None:
    told = {"input_size": [3, 32, 32], "crop_pct": 0.875} | change
    with pytest.raises(
        CheckpointError, match=r"crafted\.safetensors.*(\n.*)?image_size / crop_pct must be at most 8192"
    ):
        load(crafted(tmp_path, pretrained_cfg=told))


@pytest.mark.parametrize("task", ["detection", "os", "../../evil", 3, None])
def test_a_file_names_a_task_that_its_model_is_made_for(tmp_path: Path, task: Any) -> None:
    with pytest.raises(CheckpointError, match="a cvt_nano is made for classification or multilabel, not for the task"):
        load(crafted(tmp_path, task=task))


def test_a_model_of_fewer_stages_than_its_kernels_are_told_for_opens(tmp_path: Path) -> None:
    checkpoint.save(catalog.create("cvt_nano", dims=(8,), depths=(1,), heads=(1,)), tmp_path / "one.safetensors")
    assert len(load(tmp_path / "one.safetensors").stages) == 1  # type: ignore[arg-type]
