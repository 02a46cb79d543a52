"""weights/checkpoint.py: what is saved is what is loaded, and everything else is refused with a reason."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch import nn

from hybridvit.config import Preprocess
from hybridvit.errors import CheckpointError
from hybridvit.models import catalog
from hybridvit.weights import checkpoint
from hybridvit.weights.load import load, read_checkpoint

NAMES = ["bird", "Katze", "犬"]
SQUASH = Preprocess(image_size=(48, 64), crop_pct=1.0, crop_mode="squash", mean=(0.5,), std=(0.25,))


def example(name: str = "cvt_nano", **kwargs: object) -> nn.Module:
    """A model whose every tensor is random, BatchNorm's statistics included."""
    torch.manual_seed(0)
    model = catalog.create(name, num_classes=3, **kwargs)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor), alpha=0.1)
    return model.eval()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    checkpoint.save(example(), tmp_path / "model.safetensors", label_names=NAMES)
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("name", ["cvt_nano", "cmt_nano"])
def test_a_model_comes_back_with_all_that_belongs_to_it(tmp_path: Path, name: str) -> None:
    model = example(name, in_chans=1, img_size=(48, 64)).to(memory_format=torch.channels_last)
    path = tmp_path / "new" / "folder" / "model.safetensors"
    recipe, metrics, origin = {"seed": 1, "betas": [0.9, 0.99]}, {"top1": 99.0}, {"source": "here"}
    checkpoint.save(model, path, label_names=NAMES, preprocess=SQUASH, recipe=recipe, metrics=metrics, origin=origin)

    read = read_checkpoint(path)
    assert (read.architecture, read.num_classes, read.label_names) == (name, 3, NAMES)
    assert (read.recipe, read.metrics, read.origin) == (recipe, metrics, origin)
    again = load(path)
    assert not again.training
    assert again.label_names == NAMES
    assert again.preprocess == read.preprocess == SQUASH
    assert again.pretrained_cfg["input_size"] == (1, 48, 64)
    assert again.pretrained_cfg["crop_mode"] == "squash"
    assert again.pretrained_cfg["num_classes"] == 3
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], tensor, rtol=0, atol=0)
    x = torch.rand(2, 1, 48, 64)
    torch.testing.assert_close(again(x), model(x), rtol=1e-4, atol=1e-4)
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]


def test_saving_a_loaded_model_keeps_its_names_and_preprocessing(tmp_path: Path) -> None:
    checkpoint.save(example(in_chans=1), tmp_path / "a.safetensors", label_names=NAMES, preprocess=SQUASH)
    checkpoint.save(load(tmp_path / "a.safetensors"), tmp_path / "b.safetensors")
    again = load(tmp_path / "b.safetensors")
    assert (again.label_names, again.preprocess) == (NAMES, SQUASH)


def test_another_arithmetic_and_a_later_picture_size_survive(tmp_path: Path) -> None:
    model = example("cmt_nano", local_residual="outside", qkv_bias=False)
    model.set_input_size((64, 32))
    checkpoint.save(model, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.config == model.config
    assert again.img_size == (64, 32)
    x = torch.rand(1, 3, 64, 32)
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full_disk(state: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be written: No space left"):
        checkpoint.save(example(), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_the_number_of_names_must_be_the_number_of_classes(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="2 class names for a model with 3 classes"):
        checkpoint.save(example(), tmp_path / "model.safetensors", label_names=["a", "b"])


def test_other_tools_read_the_file(saved: Path) -> None:
    with safe_open(saved, framework="np") as file:
        header = json.loads(file.metadata()["hybridvit"])
        assert set(file.keys()) == set(example().state_dict())
    assert header["architecture"] == "cvt_nano"
    assert header["pretrained_cfg"]["input_size"] == [3, 32, 32]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n <!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"these are no weights\n", "is a text file"),
        (b"PK\x03\x04" + bytes(40), r"is a truncated or damaged PyTorch \(zip\) file"),
        (b"\x80\x02}q\x00." + bytes(40), "holds no weights"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "is a truncated or damaged HDF5 file"),
        (b"\xff" * 64, "is of no known format"),
    ],
)
def test_a_foreign_file_is_called_by_its_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"weights\.safetensors {message}"):
        read_checkpoint(path)


@pytest.mark.parametrize("keep", [9, 300, -1])
def test_a_truncated_file_is_refused(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="truncated"):
        load(saved)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.safetensors does not exist"):
        load(tmp_path / "none.safetensors")


def test_safetensors_of_no_known_model_are_refused(tmp_path: Path) -> None:
    save_file({"x": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="is of no source that can be told"):
        load(tmp_path / "other.safetensors")


def _with_header(path: Path, **changes: object) -> Path:
    """Rewrite a checkpoint with some of its header changed; None removes an entry."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["hybridvit"]) | changes
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    header = {key: value for key, value in header.items() if value is not None}
    save_file(state, path, metadata={"hybridvit": json.dumps(header)})
    return path


@pytest.mark.parametrize("key", ["architecture", "num_classes", "pretrained_cfg", "format"])
def test_a_header_without_an_entry_is_called_damaged(saved: Path, key: str) -> None:
    with pytest.raises(CheckpointError, match=rf"header is damaged \('{key}'\)"):
        load(_with_header(saved, **{key: None}))


def test_a_file_of_a_later_format_asks_for_a_newer_version(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="has format 2, this hybridvit reads format 1"):
        load(_with_header(saved, format=2))


def test_an_unknown_architecture_names_the_nearest(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=r"unknown architecture 'cvt_nanoo'.*cvt_nano"):
        load(_with_header(saved, architecture="cvt_nanoo"))


def test_an_unknown_model_argument_is_an_error_of_the_file(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be built as the file says.*wings"):
        load(_with_header(saved, model_args={"wings": 2}))


def test_all_tensors_that_do_not_fit_are_listed_at_once(saved: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    del state["norm.bias"]
    state["extra"] = torch.ones(2)
    state["head.weight"] = torch.ones(5, 128)
    save_file(state, saved, metadata=metadata)
    with pytest.raises(CheckpointError) as caught:
        load(saved)
    assert str(caught.value).splitlines() == [
        f"{saved}: 3 tensors do not fit cvt_nano:",
        "  extra  file (2,), not in the model",
        "  head.weight  file (5, 128), model (3, 128)",
        "  norm.bias  not in the file, model (128,)",
    ]


@pytest.mark.parametrize("name", ["cvt_nano", "cmt_nano"])
def test_a_folder_as_timm_writes_it_is_loaded(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3, in_chans=1, img_size=(48, 64)).eval()
    save_for_hf(model, tmp_path, model_config={"label_names": NAMES}, safe_serialization=True)
    again = load(tmp_path)
    assert again.label_names == NAMES
    assert again.pretrained_cfg["crop_pct"] == model.pretrained_cfg["crop_pct"]
    x = torch.rand(1, 1, 48, 64)
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)


def test_class_names_by_number_are_put_in_order(tmp_path: Path) -> None:
    model = timm.create_model("cvt_nano", num_classes=3)
    save_for_hf(model, tmp_path, model_config={"label_names": {2: "c", 0: "a", 1: "b"}}, safe_serialization=True)
    assert read_checkpoint(tmp_path).label_names == ["a", "b", "c"]


def test_another_folder_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"folder without config\.json and model\.safetensors"):
        load(tmp_path)


@pytest.mark.parametrize("config", ["{}", "[]", "{", '{"architecture": "cvt_nano", "num_classes": 3}', "\xff"])
def test_a_damaged_configuration_is_refused(tmp_path: Path, config: str) -> None:
    save_for_hf(timm.create_model("cvt_nano", num_classes=3), tmp_path, safe_serialization=True)
    (tmp_path / "config.json").write_text(config, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"config\.json is not a timm configuration"):
        load(tmp_path)


def test_the_file_may_be_read_by_whoever_may_read_new_files(saved: Path) -> None:
    (saved.parent / "new").touch()
    assert saved.stat().st_mode == (saved.parent / "new").stat().st_mode
