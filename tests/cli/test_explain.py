"""hybridvit explain: one command from a picture and a checkpoint to maps."""

import inspect
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hybridvit
from hybridvit.cli.main import main

MakePictures = Callable[..., Path]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "beach.png")
    return tmp_path / "beach.png"


def explain(out: Path, *words: str | Path) -> int:
    return main(["explain", *map(str, words), "--out", str(out), "--device", "cpu"])


@pytest.mark.parametrize(
    ("words", "file"),
    [
        ([], "beach-attention.png"),
        (["--query", "40", "30", "--stage", "0", "--block", "0", "--head", "0"], "beach-attention.png"),
        (["--heads"], "beach-attention-heads.png"),
        (["--stages"], "beach-attention-stages.png"),
        (["--method", "rollout"], "beach-rollout.png"),
        (["--method", "gradcam", "--class", "b"], "beach-gradcam.png"),
        (["--method", "gradients", "--class", "2"], "beach-gradients.png"),
        (["--method", "occlusion"], "beach-occlusion.png"),
        (["--method", "attention", "rollout", "gradcam", "--query", "40", "30"], "beach-methods.png"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value) or "plain",
)
def test_every_option_draws_its_figure(
    weights: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], file: str
) -> None:
    assert explain(tmp_path / "new" / "out", weights, picture, *words) == 0
    path = tmp_path / "new" / "out" / file
    with Image.open(path) as figure:
        assert min(figure.size) > 200
        assert len(np.unique(np.asarray(figure.convert("L")))) > 50
    assert capsys.readouterr().out.startswith(f"{path}  ")


def test_two_models_are_drawn_side_by_side(weights: Path, picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    hybridvit.save(hybridvit.create_model("cmt_nano", num_classes=3), other)
    assert explain(tmp_path, weights, picture, "--compare", other) == 0
    assert (tmp_path / "beach-attention-compare.png").is_file()


def test_two_files_of_one_name_are_told_by_their_folders(weights: Path, picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / weights.name
    hybridvit.save(hybridvit.create_model("cmt_nano", num_classes=3), other)
    assert explain(tmp_path, weights, picture, "--compare", other, "--arrays") == 0
    with np.load(tmp_path / "beach-attention-compare.npz") as arrays:
        assert {"heat_0", "heat_1"} <= set(arrays.files)


def test_arrays_lie_on_the_pictures_pixels(weights: Path, picture: Path, tmp_path: Path) -> None:
    assert explain(tmp_path, weights, picture, "--method", "rollout", "--arrays") == 0
    with np.load(tmp_path / "beach-rollout.npz") as arrays:
        assert arrays["heat_0"].shape == (60, 90)
        np.testing.assert_array_equal(arrays["heat_0"], hybridvit.explain(weights, picture, method="rollout").heat)


def test_pictures_of_one_name_do_not_overwrite_each_other(
    weights: Path, make_pictures: MakePictures, tmp_path: Path
) -> None:
    folder = make_pictures(test=1) / "test"
    assert explain(tmp_path / "out", weights, folder) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "000-2-attention.png",
        "000-3-attention.png",
        "000-attention.png",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stage", "7"], "ConfigError: There is no stage 7: the model has 3, numbered 0 to 2."),
        (["--stage", "1", "--block", "99"], "There is no block of stage 1 99: the model has"),
        (["--head", "9"], "ConfigError: There is no head 9: the model has 4, numbered 0 to 3."),
        (["--query", "900", "3"], "is not in what the model sees of this picture of 90 x 60 pixels"),
        (["--method", "rollout", "--stage", "1"], "ConfigError: rollout knows no stage; it takes query."),
        (["--method", "gradcam", "--class", "dog"], "knows no class 'dog'. Give a number below 3 or one of a, b, c."),
        (["--method", "rollout", "--heads"], "one head"),
        (["--method", "rollout", "gradcam", "--stages"], "--heads, --stages and --compare draw one method"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_cannot_be_drawn_says_why(
    weights: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert explain(tmp_path / "out", weights, picture, *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_picture_is_named(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.md").write_text("no picture")
    assert explain(tmp_path / "out", weights, tmp_path / "notes.md") == 2
    assert "notes.md cannot be read as a picture" in capsys.readouterr().err


def test_the_function_of_the_package_takes_a_file_and_a_class_by_name(weights: Path, picture: Path) -> None:
    assert inspect.isfunction(hybridvit.explain)
    found = hybridvit.explain(weights, picture, method="gradcam", label="a")
    assert found.label == 0
    assert found.heat.shape == (60, 90)
    assert len(found.top(2)) == 2
    assert found.figure().axes
    with Image.open(io.BytesIO(found._repr_png_())) as shown:
        assert shown.width > shown.height > 200


def test_pictures_may_lie_in_an_archive_or_a_list(
    weights: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as zipped:
        zipped.write(picture, "deep/first.png")
    (tmp_path / "list.txt").write_text(f"{picture.name}\n{picture.name} a\n")
    assert (
        explain(tmp_path / "out", weights, tmp_path / "pictures.zip", tmp_path / "list.txt", "--root", picture.parent)
        == 0
    )
    names = [f"{name}-attention.png" for name in ("first", picture.stem, f"{picture.stem}-2")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    (tmp_path / "list.txt").write_text("gone.png")
    assert explain(tmp_path / "out", weights, tmp_path / "list.txt") == 2
    assert "gone.png. Give the folder where the paths start with --root" in capsys.readouterr().err
