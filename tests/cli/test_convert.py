"""hybridvit convert and export-weights: any file to ours, changed only where asked, and back."""

import copy
import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import foreign
import hybridvit
from hybridvit.cli.main import main
from hybridvit.models import catalog
from hybridvit.weights import checkpoint
from hybridvit.weights.load import read_checkpoint
from hybridvit.weights.tables import PUBLISHED
from support import pictures, randomise, relative_error


@functools.cache
def model_of(name: str, **kwargs: Any) -> Any:
    """A model whose weights are nowhere at rest, in float32. Made once: copy it before changing it."""
    return randomise(catalog.create(name, **kwargs)).float().eval()


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., Path]:
    """stored("huawei", "cmt_nano", num_classes=3): the file that a source writes of a model."""

    def write(source_name: str, name: str, **kwargs: Any) -> Path:
        source = PUBLISHED[source_name]
        arrays = foreign.stored_as(source, model_of(name, **kwargs))
        path = tmp_path / f"{source_name}.weights"
        if source.format == "torch":
            torch.save({source.layout: foreign.tensors(arrays)} if source.layout else foreign.tensors(arrays), path)
        elif source.format == "safetensors":
            save_file(foreign.tensors(arrays), path)
        else:
            write_as = {
                "paddle": foreign.write_paddle,
                "keras": foreign.write_keras,
                "mindspore": foreign.write_mindspore,
            }
            write_as[source.format](path, arrays)
        return path

    return write


# Where a source has sizes of its own arithmetic only, the smallest of them.
MODELS = {
    **dict.fromkeys(("microsoft", "paddlevit", "paddleclas"), "cvt_nano"),
    **{"huawei": "cmt_nano", "transformers": "cvt_13_gelu", "flyegle": "cmt_ti_flyegle"},
    **{"kecam": "cmt_ti_kecam_port", "kecam-own": "cmt_ti_kecam", "mindcv": "cmt_ti_mindcv"},
}


@pytest.mark.parametrize("source", PUBLISHED)
def test_every_source_converts_computes_the_same_and_goes_back_to_the_same_bits(
    source: str, stored: Callable[..., Path], tmp_path: Path
) -> None:
    file, out, back = stored(source, MODELS[source], num_classes=7), tmp_path / "out.safetensors", tmp_path / "back"
    assert main(["convert", str(file), str(out)]) == 0
    converted, original = hybridvit.load(out), model_of(MODELS[source], num_classes=7)
    x = pictures(1, 96, 128).float()
    with torch.no_grad():
        assert torch.equal(converted(x), original(x))

    assert main(["export-weights", str(out), "--to", source, str(back)]) == 0
    written, read = (foreign.read_back(path, PUBLISHED[source].format) for path in (back, file))
    assert written.keys() == read.keys()
    assert all(written[key].tobytes() == read[key].tobytes() and written[key].dtype == read[key].dtype for key in read)


@pytest.mark.parametrize(
    "options",
    [
        {"position": "dense", "absolute_position": True, "qkv_bias": False},
        {"position": None, "absolute_position": True},
        {"position": "offsets", "qkv_bias": False, "img_size": 64},
    ],
    ids=str,
)
def test_flyegles_options_survive_both_ways(
    options: dict[str, Any], stored: Callable[..., Path], tmp_path: Path
) -> None:
    options = {"img_size": 128} | options
    file, out = stored("flyegle", "cmt_ti_flyegle", num_classes=3, **options), tmp_path / "out.safetensors"
    assert main(["convert", str(file), str(out)]) == 0
    x = pictures(1, options["img_size"], options["img_size"]).float()
    with torch.no_grad():
        assert torch.equal(hybridvit.load(out)(x), model_of("cmt_ti_flyegle", num_classes=3, **options)(x))
    assert main(["export-weights", str(out), "--to", "flyegle", str(tmp_path / "back")]) == 0
    assert foreign.read_back(tmp_path / "back", "torch").keys() == foreign.read_back(file, "torch").keys()


def test_mindcv_files_without_position_tables_get_zeros_and_lose_them_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = foreign.stored_as(PUBLISHED["mindcv"], model_of("cmt_ti_mindcv"))
    held = {key: array for key, array in arrays.items() if "relative_pos" not in key}
    foreign.write_mindspore(tmp_path / "cmt_tiny.ckpt", held)
    out = tmp_path / "out.safetensors"
    assert main(["convert", str(tmp_path / "cmt_tiny.ckpt"), str(out)]) == 0
    said = capsys.readouterr().out
    assert "4 of 4 position tables are zero throughout" in said
    assert "4 x table" in said
    assert not any(tensor.any() for key, tensor in read_checkpoint(out).state.items() if "position" in key)
    assert main(["export-weights", str(out), "--to", "mindcv", str(tmp_path / "back")]) == 0
    assert foreign.read_back(tmp_path / "back", "mindspore").keys() == held.keys()


def test_foreign_files_load_without_converting_first(stored: Callable[..., Path]) -> None:
    model = hybridvit.load(stored("huawei", "cmt_nano", num_classes=5))
    x = pictures(1, 32, 32).float()
    with torch.no_grad():
        assert torch.equal(model(x), model_of("cmt_nano", num_classes=5)(x))
    assert model.preprocess.image_size == (32, 32)


def test_timms_training_checkpoints_name_their_model(tmp_path: Path) -> None:
    raw, ema = (randomise(catalog.create("cvt_13_gelu", num_classes=2), seed).float() for seed in (1, 2))
    tree = {"arch": "cvt_13_gelu", "epoch": 9, "state_dict": raw.state_dict(), "state_dict_ema": ema.state_dict()}
    torch.save(tree, tmp_path / "model_best.pth.tar")
    model = hybridvit.load(tmp_path / "model_best.pth.tar")
    assert model.architecture == "cvt_13_gelu"
    assert torch.equal(model.head.weight, ema.head.weight)


@pytest.mark.parametrize("source", ["microsoft", "huawei", "flyegle"])
def test_counters_that_a_file_lacks_are_zero_and_not_written_back(
    source: str, stored: Callable[..., Path], tmp_path: Path
) -> None:
    file, out = stored(source, MODELS[source]), tmp_path / "out.safetensors"
    state = foreign.read_back(file, "torch")
    held = {key: array for key, array in state.items() if "num_batches_tracked" not in key}
    torch.save(foreign.tensors(held), file)
    assert main(["convert", str(file), str(out)]) == 0
    assert main(["export-weights", str(out), "--to", source, str(tmp_path / "back")]) == 0
    assert foreign.read_back(tmp_path / "back", "torch").keys() == held.keys()


# ---- arithmetic -------------------------------------------------------------------------------------------------------------


def test_the_authors_arithmetic_is_chosen_by_hand(stored: Callable[..., Path], tmp_path: Path) -> None:
    file, out = stored("transformers", "cvt_13_gelu", num_classes=2), tmp_path / "out.safetensors"
    assert main(["convert", str(file), str(out), "--arithmetic", "authors"]) == 0
    x = pictures(1, 64, 64).float()
    with torch.no_grad():
        assert torch.equal(hybridvit.load(out)(x), model_of("cvt_13", num_classes=2)(x))
        assert not torch.equal(hybridvit.load(file)(x), hybridvit.load(out)(x))


def test_kecams_ports_convert_to_the_authors_arithmetic_too(stored: Callable[..., Path], tmp_path: Path) -> None:
    file, out = stored("kecam", "cmt_ti_kecam_port"), tmp_path / "out.safetensors"
    assert main(["convert", str(file), str(out), "--arithmetic", "authors"]) == 0
    assert read_checkpoint(out).architecture == "cmt_ti"


# ---- sets of weights --------------------------------------------------------------------------------------------------------


def test_raw_and_averaged_weights_are_chosen_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, ema = (
        foreign.stored_as(PUBLISHED["paddlevit"], randomise(catalog.create("cvt_nano"), seed).float())
        for seed in (1, 2)
    )
    file = tmp_path / "checkpoint.pdparams"
    file.write_bytes(pickle.dumps({"model": raw, "model_ema": ema, "epoch": 3, "optimizer": {"lr": 0.1}}, protocol=4))
    for arguments, expected in ((["--weights", "raw"], raw), (["--weights", "ema"], ema), ([], ema)):
        assert main(["convert", str(file), str(tmp_path / "out.safetensors"), *arguments]) == 0
        state = read_checkpoint(tmp_path / "out.safetensors").state
        np.testing.assert_array_equal(state["head.weight"].numpy(), expected["head.weight"].T)
    assert f"raw ({len(raw)} tensors), ema ({len(ema)} tensors)" in capsys.readouterr().out


def test_a_set_that_is_not_there_is_refused(stored: Callable[..., Path], tmp_path: Path, capsys: Any) -> None:
    file = stored("microsoft", "cvt_nano")
    assert main(["convert", str(file), str(tmp_path / "out"), "--weights", "ema"]) == 2
    assert f"{file} holds no ema weights, only raw." in capsys.readouterr().err


# ---- surgery ----------------------------------------------------------------------------------------------------------------


def test_another_number_of_classes_needs_a_new_head(stored: Callable[..., Path], tmp_path: Path, capsys: Any) -> None:
    file, out = stored("huawei", "cmt_nano", num_classes=1000), tmp_path / "out.safetensors"
    assert main(["convert", str(file), str(out), "--num-classes", "10"]) == 2
    assert "a head of 1000 classes, not 10" in capsys.readouterr().err
    assert not out.exists()
    assert main(["convert", str(file), str(out), "--new-head"]) == 2
    assert "--new-head needs --num-classes N" in capsys.readouterr().err

    assert main(["convert", str(file), str(out), "--num-classes", "10", "--new-head"]) == 0
    assert "New head of 10 classes, untrained; the file's 1000 classes were dropped." in capsys.readouterr().out
    converted, original = read_checkpoint(out), model_of("cmt_nano", num_classes=1000).state_dict()
    assert converted.num_classes == 10
    kept = {key for key in original if not key.startswith("head.fc")}
    assert all(torch.equal(converted.state[key], original[key]) for key in kept)


def test_a_file_without_a_head_gives_features_or_gets_one(tmp_path: Path, capsys: Any) -> None:
    """transformers' CvtModel stores neither the classifier nor the norm before it, and no "cvt."."""
    arrays = foreign.stored_as(PUBLISHED["transformers"], model_of("cvt_13"))
    bare = {key.removeprefix("cvt."): array for key, array in arrays.items() if key.startswith("cvt.")}
    file, out = tmp_path / "model.safetensors", tmp_path / "out.safetensors"
    save_file(foreign.tensors(bare), file)
    assert main(["convert", str(file), str(out)]) == 0
    assert "No classifier in the file" in capsys.readouterr().out
    assert hybridvit.load(out)(torch.zeros(1, 3, 32, 32)).shape == (1, 384)
    assert main(["convert", str(file), str(out), "--num-classes", "4", "--new-head"]) == 0
    assert hybridvit.load(out)(torch.zeros(1, 3, 32, 32)).shape == (1, 4)


@pytest.mark.parametrize("source", ["huawei", "flyegle", "kecam-own"])
def test_position_tables_are_resized_to_another_picture_size(
    source: str, stored: Callable[..., Path], tmp_path: Path
) -> None:
    file, out = stored(source, MODELS[source], img_size=64), tmp_path / "out.safetensors"
    size = (64, 96)
    assert main(["convert", str(file), str(out), "--image-size", *map(str, size)]) == 0
    converted, original = hybridvit.load(out), copy.deepcopy(model_of(MODELS[source], img_size=64))
    assert converted.preprocess.image_size == size
    original.set_input_size(size)
    x = pictures(1, *size).float()
    with torch.no_grad():
        assert torch.equal(converted(x), original(x))


def test_resizing_there_and_back_loses_less_than_one_percent_of_a_smooth_table(tmp_path: Path) -> None:
    model = copy.deepcopy(model_of("cmt_ti"))
    for stage in model.stages:
        rows = torch.linspace(-1, 1, stage.position.grid[0])
        queries = (rows[:, None] + 0.5 * rows[None, :] ** 2).flatten()
        keys = torch.linspace(-1, 1, 5)
        table = queries[:, None] * 0.3 + (keys[:, None] - keys[None, :] * 0.5).flatten()[None, :]
        stage.position.table.data.copy_(table.expand_as(stage.position.table))
    file, there, back = (tmp_path / name for name in ("cmt.pth", "there.safetensors", "back.safetensors"))
    torch.save({"model": foreign.tensors(foreign.stored_as(PUBLISHED["huawei"], model))}, file)
    assert main(["convert", str(file), str(there), "--image-size", "320", "320"]) == 0
    assert main(["convert", str(there), str(back), "--image-size", "160", "160"]) == 0
    before, after = model.state_dict(), read_checkpoint(back).state
    for key in (key for key in before if "position" in key):
        assert 0 < relative_error(after[key], before[key]) < 0.01, key


def test_too_small_a_picture_is_refused(stored: Callable[..., Path], tmp_path: Path, capsys: Any) -> None:
    file = stored("huawei", "cmt_nano")
    assert main(["convert", str(file), str(tmp_path / "out"), "--image-size", "8", "8"]) == 2
    assert "too small" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["microsoft", "huawei"])
def test_the_first_convolution_is_summed_for_grey_and_repeated_for_more(
    source: str, stored: Callable[..., Path], tmp_path: Path
) -> None:
    file, out = stored(source, MODELS[source]), tmp_path / "out.safetensors"
    key = "stem.0.conv.weight" if source == "huawei" else "stages.0.embed.conv.weight"
    original = model_of(MODELS[source]).state_dict()[key]
    assert main(["convert", str(file), str(out), "--in-chans", "1"]) == 0
    grey = read_checkpoint(out)
    torch.testing.assert_close(grey.state[key], original.sum(dim=1, keepdim=True))
    assert grey.preprocess.in_chans == 1
    assert main(["convert", str(file), str(out), "--in-chans", "6"]) == 0
    torch.testing.assert_close(read_checkpoint(out).state[key], torch.cat((original, original), dim=1) / 2)


def test_cvt_at_another_size_is_evaluated_without_a_crop(stored: Callable[..., Path], tmp_path: Path) -> None:
    file, out = stored("paddleclas", "cvt_13"), tmp_path / "out.safetensors"
    assert main(["convert", str(file), str(out), "--image-size", "384", "384"]) == 0
    preprocess = read_checkpoint(out).preprocess
    assert (preprocess.image_size, preprocess.crop_mode, preprocess.crop_pct) == ((384, 384), "squash", 1.0)


# ---- numbers of other precision ---------------------------------------------------------------------------------------------


def test_half_precision_is_widened_and_written_back_to_the_same_bits(tmp_path: Path) -> None:
    arrays = foreign.stored_as(PUBLISHED["microsoft"], model_of("cvt_nano"))
    state = {
        key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in foreign.tensors(arrays).items()
    }
    torch.save(state, tmp_path / "half.pth")
    out, back = tmp_path / "out.safetensors", tmp_path / "back.pth"
    assert main(["convert", str(tmp_path / "half.pth"), str(out)]) == 0
    assert read_checkpoint(out).state["head.weight"].dtype == torch.float32
    assert main(["export-weights", str(out), "--to", "microsoft", str(back)]) == 0
    written = torch.load(back, weights_only=True)
    assert all(
        torch.equal(written[key], tensor) and written[key].dtype == tensor.dtype for key, tensor in state.items()
    )


# ---- what does not fit ------------------------------------------------------------------------------------------------------


def test_all_tensors_that_do_not_fit_are_listed_at_once(tmp_path: Path, capsys: Any) -> None:
    arrays = foreign.stored_as(PUBLISHED["microsoft"], model_of("cvt_13"))
    arrays["norm.weight"] = np.ones(5, np.float32)
    del arrays["stage1.blocks.1.mlp.fc1.bias"]
    arrays["head.extra"] = np.ones(2, np.float32)
    arrays["norm.bias"] = np.ones(384, np.int8)
    torch.save(foreign.tensors(arrays), tmp_path / "cvt13.pth")
    assert main(["convert", str(tmp_path / "cvt13.pth"), str(tmp_path / "out.safetensors")]) == 2
    message = capsys.readouterr().err
    assert "looks like microsoft/CvT (the authors), but 4 tensors do not fit cvt_13:" in message
    assert "norm.weight  file (5,), model (384,)" in message
    assert "norm.bias  file (384,) of int8, model (384,)" in message
    assert "stage1.blocks.1.mlp.fc1.bias  not in the file" in message
    assert "head.extra  no place in the model" in message
    assert not (tmp_path / "out.safetensors").exists()


def test_a_failed_write_leaves_the_old_file(stored: Callable[..., Path], tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "folder"
    out.mkdir()
    (out / "kept").touch()
    assert main(["convert", str(stored("huawei", "cmt_nano")), str(out)]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["kept"]


# ---- export -----------------------------------------------------------------------------------------------------------------


def test_a_model_of_our_own_exports_to_every_source_that_computes_alike(tmp_path: Path, capsys: Any) -> None:
    checkpoint.save(model_of("cvt_nano", num_classes=3), tmp_path / "ours.safetensors")
    for source in ("microsoft", "transformers", "paddlevit", "paddleclas"):
        out = tmp_path / source
        assert main(["export-weights", str(tmp_path / "ours.safetensors"), "--to", source, str(out)]) == 0
        assert ("another arithmetic" in capsys.readouterr().out) == (source == "transformers")
        assert main(["convert", str(out), str(tmp_path / "again.safetensors"), "--arithmetic", "authors"]) == 0
        ours, again = (read_checkpoint(tmp_path / f"{name}.safetensors") for name in ("ours", "again"))
        assert again.architecture == "cvt_nano"
        assert all(torch.equal(again.state[key], tensor) for key, tensor in ours.state.items())


def test_a_source_that_computes_otherwise_is_refused(tmp_path: Path, capsys: Any) -> None:
    checkpoint.save(model_of("cvt_13_gelu", num_classes=3), tmp_path / "ours.safetensors")
    assert main(["export-weights", str(tmp_path / "ours.safetensors"), "--to", "microsoft", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert "is cvt_13_gelu, and microsoft/CvT (the authors) does not compute as it does" in message
    assert "Sources that do: transformers." in message


def test_a_field_that_the_source_cannot_be_told_is_refused(tmp_path: Path, capsys: Any) -> None:
    checkpoint.save(model_of("cmt_nano", block_eps=1e-3), tmp_path / "ours.safetensors")
    assert main(["export-weights", str(tmp_path / "ours.safetensors"), "--to", "huawei", str(tmp_path / "out")]) == 2
    assert "built with block_eps of its own" in capsys.readouterr().err


def test_a_misspelt_source_is_answered_with_the_nearest(tmp_path: Path, capsys: Any) -> None:
    assert main(["export-weights", "x", "--to", "huawey", str(tmp_path / "out")]) == 2
    assert "Did you mean huawei?" in capsys.readouterr().err


def test_an_unknown_source_is_answered_with_all(tmp_path: Path, capsys: Any) -> None:
    assert main(["convert", "x", str(tmp_path / "out"), "--to", "nobody"]) == 2
    assert f"Known: {', '.join(PUBLISHED)}." in capsys.readouterr().err
