"""Masks are read exactly, in every layout, and what would teach something wrong in silence is refused with the values found."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hybridvit.cli.main import main
from hybridvit.data.mask_check import check_masks, refuse_wrong_masks
from hybridvit.data.mask_folders import CITYSCAPES, VOC, MaskSource, read_masks
from hybridvit.data.mask_opening import open_mask_parts, open_mask_splits, open_mask_test
from hybridvit.data.masks import Classes, colour_map, read_values, to_classes
from hybridvit.errors import DataError

RNG = np.random.default_rng(0)
SIZE = (6, 9)


def write(path: Path, values: np.ndarray, **kwargs: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **kwargs)
    return path


def photo(path: Path, size: tuple[int, int] = SIZE, **kwargs: object) -> Path:
    return write(path, RNG.integers(0, 256, (*size, 3), dtype=np.uint8), **kwargs)


def mask(values: tuple[int, ...], size: tuple[int, int] = SIZE, dtype: type = np.uint8) -> np.ndarray:
    """The values in turn, so that each occurs."""
    return np.resize(np.array(values, dtype=dtype), size)


Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """make(train=[...], val=[...]): images/ and masks/ with two parts, and classes.txt of three names."""

    def build(
        train: tuple[np.ndarray, ...] = (mask((0, 1, 2)), mask((0, 1))),
        val: tuple[np.ndarray, ...] = (mask((0, 2, 255)),),
        names: str | None = "sky\nroad\ncar\n",
    ) -> Path:
        for part, masks in (("train", train), ("val", val)):
            for i, values in enumerate(masks):
                photo(tmp_path / "images" / part / f"{i}.jpg")
                write(tmp_path / "masks" / part / f"{i}.png", values)
        if names is not None:
            (tmp_path / "classes.txt").write_text(names)
        return tmp_path

    return build


# How the same numbers of classes may be stored.
GREY = mask((0, 1, 2, 255))
STORED = {
    "grey": lambda: Image.fromarray(GREY),
    "palette": lambda: _palette(GREY),
    "16 bits": lambda: Image.fromarray(GREY.astype(np.uint16)),
    "32 bits": lambda: Image.fromarray(GREY.astype(np.int32)),
}


def _palette(values: np.ndarray) -> Image.Image:
    picture = Image.frombytes("P", (values.shape[1], values.shape[0]), values.tobytes())
    picture.putpalette([channel for colour in colour_map(256) for channel in colour])
    return picture


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [(kind, suffix) for kind in STORED for suffix in (".png", ".tif") if (kind, suffix) != ("32 bits", ".png")],
)
def test_the_values_of_a_mask_are_read_as_they_are(kind: str, suffix: str, tmp_path: Path) -> None:
    STORED[kind]().save(path := tmp_path / f"mask{suffix}")
    assert np.array_equal(read_values(path.read_bytes(), name="mask"), GREY)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_grey_png_of_few_bits_is_not_stretched(bits: int) -> None:
    """Pillow, like others, gives 85 for 1 of 3, and 17 for 1 of 15."""
    values = mask(tuple(range(2**bits)), (4, 8))
    data = _png(values, bits)
    assert np.array_equal(read_values(data, name="mask"), values)


def _png(values: np.ndarray, bits: int) -> bytes:
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = values.shape
    rows = b""
    for row in values:
        flat = "".join(f"{value:0{bits}b}" for value in row)
        rows += b"\0" + bytes(int(flat[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(flat), 8))
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def classes(count: int, **kwargs: bool) -> Classes:
    return Classes(tuple(map(str, range(count))), colour_map(count), **kwargs)


def test_the_zero_label_is_reduced_once_and_255_stays() -> None:
    values = np.array([[0, 1, 2, 150, 255]], dtype=np.uint8)
    found = to_classes(values, classes(150, reduce_zero_label=True), name="mask")
    assert found.tolist() == [[255, 0, 1, 149, 255]]
    assert to_classes(values, classes(151), name="mask").tolist() == values.tolist()


def test_more_than_255_classes_have_65535_for_none() -> None:
    values = np.array([[0, 255, 299, 65535]], dtype=np.uint16)
    assert to_classes(values, classes(300), name="mask").tolist() == [[0, 255, 299, 65535]]
    reduced = np.array([[0, 300, 65535]], dtype=np.uint16)
    assert to_classes(reduced, classes(300, reduce_zero_label=True), name="m").tolist() == [[65535, 299, 65535]]


def test_pairs_are_found_by_name_and_targets_are_numbers_of_classes(make: Make) -> None:
    parts = read_masks(make())
    assert list(parts) == ["train", "val"]
    assert parts["train"].class_names == ("sky", "road", "car")
    assert Path(parts["train"].name(1)).name == "1.jpg"
    target = parts["val"].target(0)
    assert target.dtype == torch.uint8
    assert torch.equal(target, torch.from_numpy(mask((0, 2, 255))))
    check = check_masks(parts)
    assert (check.problems, check.broken) == ([], [])
    assert check.pixels["train"] == [45, 45, 18]
    assert check.pictures["train"] == [2, 2, 1]
    assert check.ignored["val"] == pytest.approx(1 / 3)


LAYOUTS = {
    "ade20k": [
        ("images/training/{}.jpg", "annotations/training/{}.png"),
        ("images/validation/{}.jpg", "annotations/validation/{}.png"),
    ],
    "coco_stuff": [
        ("train2017/{}.jpg", "stuffthingmaps/train2017/{}.png"),
        ("val2017/{}.jpg", "stuffthingmaps/val2017/{}.png"),
    ],
    "mmsegmentation": [
        ("images/train2017/{}.jpg", "annotations/train2017/{}_labelTrainIds.png"),
        ("images/val2017/{}.jpg", "annotations/val2017/{}_labelTrainIds.png"),
    ],
    "parts_first": [("train/images/{}.jpg", "train/labels/{}.png"), ("valid/images/{}.jpg", "valid/labels/{}.png")],
    "below_folders": [
        ("images/train/a/{}.jpg", "masks/train/a/{}_mask.png"),
        ("images/val/b/{}.jpg", "masks/val/b/{}_mask.png"),
    ],
    "cityscapes": [
        ("leftImg8bit/train/ulm/{}_leftImg8bit.png", "gtFine/train/ulm/{}_gtFine_labelTrainIds.png"),
        ("leftImg8bit/val/ulm/{}_leftImg8bit.png", "gtFine/val/ulm/{}_gtFine_labelTrainIds.png"),
    ],
    "voc": [("JPEGImages/{}.jpg", "SegmentationClass/{}.png"), ("JPEGImages/{}.jpg", "SegmentationClass/{}.png")],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_layouts_are_read(layout: str, tmp_path: Path) -> None:
    values = mask((0, 1, 2, 255)) if layout != "ade20k" else mask((0, 1, 2, 3))
    for part, (picture_at, mask_at) in zip(("train", "val"), LAYOUTS[layout], strict=True):
        name = f"{part}_1"
        photo(tmp_path / picture_at.format(name))
        write(tmp_path / mask_at.format(name), values)
        if layout == "voc":
            file = tmp_path / "ImageSets" / "Segmentation" / f"{part}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(name + "\n")
    if layout not in ("cityscapes", "voc"):
        (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    parts = read_masks(tmp_path)
    assert list(parts) == ["train", "val"]
    assert {len(source) for source in parts.values()} == {1}
    expected = mask((255, 0, 1, 2)) if layout == "ade20k" else values
    assert np.array_equal(parts["val"].target(0).numpy(), expected)
    if layout == "cityscapes":
        assert parts["train"].class_names == tuple(CITYSCAPES)
        assert parts["train"].classes.colours[13] == (0, 0, 142)
    if layout == "voc":
        assert parts["train"].class_names == VOC
        assert parts["train"].classes.colours[:3] == ((0, 0, 0), (128, 0, 0), (0, 128, 0))


def test_ade20k_and_coco_stuff_name_their_own_classes(make: Make) -> None:
    root = make(names=None)
    (root / "objectInfo150.txt").write_text(
        "Idx\tRatio\tTrain\tVal\tName\n1\t0.1\t1\t1\twall\n2\t0.1\t1\t1\tbuilding, edifice\n3\t0\t1\t1\tsky\n"
    )
    assert read_masks(root)["train"].class_names == ("wall", "building", "sky")
    (root / "objectInfo150.txt").unlink()
    (root / "labels.txt").write_text("0: unlabeled\n1: person\n2: bicycle\n3: car\n")
    assert read_masks(root)["train"].class_names == ("person", "bicycle", "car")


def test_a_file_of_ones_own_gives_names_colours_and_the_rule(make: Make) -> None:
    root = make(names=None)
    (root / "masks.yaml").write_text(
        'classes: {sky: "#0000ff", road: "#808080", car: "#ff0000"}\nreduce_zero_label: true\n'
    )
    found = read_masks(root)["train"].classes
    assert found.names == ("sky", "road", "car")
    assert found.colours == ((0, 0, 255), (128, 128, 128), (255, 0, 0))
    assert found.reduce_zero_label


def test_the_palette_of_the_masks_gives_the_colours(make: Make) -> None:
    root = make()
    picture = _palette(mask((0, 1, 2)))
    picture.putpalette([9, 8, 7, 250, 1, 2, 3, 200, 4])
    picture.save(root / "masks" / "train" / "0.png")
    assert read_masks(root)["train"].classes.colours == ((9, 8, 7), (250, 1, 2), (3, 200, 4))


def test_without_names_the_masks_are_counted(make: Make) -> None:
    assert read_masks(make(names=None))["train"].class_names == ("0", "1", "2")


def test_a_source_travels_to_workers(make: Make) -> None:
    import pickle

    source = read_masks(make())["train"]
    assert torch.equal(pickle.loads(pickle.dumps(source)).target(0), source.target(0))


def problems(root: Path) -> str:
    """What the check says of it, and that training refuses it with the same words."""
    parts = read_masks(root)
    report = check_masks(parts)
    text = "\n".join([*report.problems, *(entry["error"] for entry in report.broken)])
    assert report.problems
    with pytest.raises(DataError, match="The masks cannot be trained on"):
        refuse_wrong_masks(parts)
    return text


def test_masks_of_0_and_255_with_two_classes_are_refused(make: Make) -> None:
    root = make((mask((0, 255)),), (mask((0, 255)),), names="background\ncell\n")
    assert "the masks hold only values 0, 255: 255 means no class" in problems(root).replace("The", "the")


def test_masks_of_0_and_255_are_refused_where_nothing_names_the_classes(make: Make) -> None:
    with pytest.raises(DataError, match="hold only values 0, 255: 255 means no class"):
        read_masks(make((mask((0, 255)),), (mask((0, 255)),), names=None))


def test_colours_instead_of_numbers_are_refused_with_the_colours(make: Make) -> None:
    root = make()
    write(
        root / "masks" / "train" / "0.png",
        np.resize(np.array([[[255, 0, 0], [0, 0, 128]]], dtype=np.uint8), (*SIZE, 3)),
    )
    assert "holds colours (mode RGB)" in (text := problems(root))
    assert "(0, 0, 128), (255, 0, 0)" in text


def test_masks_that_count_from_1_are_refused_as_off_by_one(make: Make) -> None:
    root = make((mask((1, 2, 3)),), (mask((1, 3)),))
    text = problems(root)
    assert "count from 1 to 3, and the 3 classes from 0 to 2: all are off by one" in text
    assert "0.png holds value 3, but there are 3 classes: 0 to 2" in text
    assert "reduce_zero_label: true" in text


def test_a_zero_label_reduced_twice_is_refused(make: Make) -> None:
    root = make((mask((0, 1, 255)),), (mask((0, 1)),))
    (root / "masks.yaml").write_text("reduce_zero_label: true\n")
    assert "has been reduced in the files already" in problems(root)


def test_values_beyond_the_classes_are_refused_with_the_values(make: Make) -> None:
    assert "holds values 7, 99, but there are 3 classes: 0 to 2, 255 to be ignored" in problems(
        make((mask((0, 7, 99)),))
    )


def test_a_jpeg_mask_is_refused_whatever_it_is_called(make: Make) -> None:
    root = make()
    Image.fromarray(mask((0, 200), (64, 64))).save(root / "masks" / "train" / "0.png", format="JPEG")
    assert "0.png is a JPEG: compression has changed its values (found values 0, " in problems(root)


def test_a_mask_of_another_size_is_refused_with_both_sizes(make: Make) -> None:
    root = make()
    write(root / "masks" / "train" / "1.png", mask((0, 1), (9, 6)))
    assert "1.png has 6 x 9 pixels, its picture 1.jpg 9 x 6" in problems(root)


@pytest.mark.parametrize("turn", [3, 6])
def test_a_picture_turned_by_exif_alone_is_refused(turn: int, make: Make) -> None:
    root = make()
    exif = Image.Exif()
    exif[0x0112] = turn
    photo(root / "images" / "train" / "0.jpg", exif=exif)
    assert f"is to be turned by its EXIF tag (orientation {turn})" in problems(root)


def test_a_turned_picture_whose_mask_is_upright_by_its_shape_is_taken(make: Make) -> None:
    root = make()
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(root / "images" / "train" / "0.jpg", exif=exif)
    write(root / "masks" / "train" / "0.png", mask((0, 1), SIZE[::-1]))
    assert check_masks(read_masks(root)).problems == []


def test_a_missing_mask_is_refused_by_name(make: Make) -> None:
    root = make()
    (root / "masks" / "train" / "1.png").unlink()
    with pytest.raises(DataError, match=r"1 of 2 pictures of .*train have no mask in .*: 1\.jpg"):
        read_masks(root)


def test_a_mask_without_a_picture_is_refused_by_name(make: Make) -> None:
    root = make()
    write(root / "masks" / "val" / "left.png", mask((0, 1)))
    with pytest.raises(DataError, match=r"1 masks of .*val have no picture in .*: left\.png"):
        read_masks(root)


def test_values_that_leave_a_gap_ask_for_names(make: Make) -> None:
    with pytest.raises(DataError, match=r"values up to 9, but never 3 nor 5 others; .*classes\.txt"):
        read_masks(make((mask((0, 1, 2, 9)),), names=None))


def test_a_broken_mask_and_a_broken_picture_are_named(make: Make) -> None:
    root = make()
    (root / "masks" / "train" / "0.png").write_bytes(b"no picture")
    (root / "images" / "train" / "1.jpg").write_bytes(b"no picture")
    text = problems(root)
    assert "0.png cannot be read as a mask: it is of no known format" in text
    assert "1.jpg cannot be read as a picture" in text


def test_pixels_that_all_belong_to_no_class_are_refused(make: Make) -> None:
    assert "No pixel of train belongs to a class" in problems(make((mask((255,)),)))


def test_classes_without_a_pixel_are_noticed(make: Make) -> None:
    assert check_masks(read_masks(make((mask((0, 1)),)))).notices == [
        "1 classes have no pixel of train: car.",
        "1 classes have no pixel of val: road.",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reduce_zero: true\n", "expected the keys classes and reduce_zero_label"),
        ("classes: 3\n", "classes: expected list or dict, found 3"),
        ('classes: {a: "red", b: "#000000"}\n', "a: expected a colour as \"#ff0000\", found 'red'"),
        ("classes: [a]\n", "has one class"),
    ],
)
def test_a_wrong_masks_yaml_is_refused(text: str, message: str, make: Make) -> None:
    root = make(names=None)
    (root / "masks.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        read_masks(root)


def test_cityscapes_without_train_ids_says_how_to_make_them(tmp_path: Path) -> None:
    photo(tmp_path / "leftImg8bit" / "train" / "ulm" / "ulm_0_leftImg8bit.png")
    write(tmp_path / "gtFine" / "train" / "ulm" / "ulm_0_gtFine_labelIds.png", mask((7, 8)))
    with pytest.raises(DataError, match="createTrainIdLabelImgs"):
        read_masks(tmp_path)


def test_a_folder_without_masks_is_refused_with_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no pictures with masks"):
        read_masks(tmp_path)


def test_only_so_many_pairs_are_read_before_training(make: Make) -> None:
    source = read_masks(make(tuple(mask((0, 1, 2)) for _ in range(9))))["train"]
    seen = []

    class Counting(MaskSource):
        def values(self, index: int) -> np.ndarray:
            seen.append(index)
            return super().values(index)

    check_masks({"train": Counting(source.pairs, source.classes)}, most=3)
    assert seen == [0, 4, 8]


def test_the_parts_to_train_on_and_to_be_evaluated_on(make: Make) -> None:
    root = make()
    splits = open_mask_splits(root)
    assert (len(splits.train), len(splits.test)) == (2, 1)
    assert str(splits.train.counts) == "2 pictures of 2 seen"
    name, test = open_mask_test(root)
    assert name == f"{root}/val"
    assert test.name(0) == splits.test.name(0)
    with pytest.raises(DataError, match="has its own val part"):
        open_mask_splits(root, val_split=0.5)


def test_a_share_of_one_whole_is_held_out_by_name(tmp_path: Path) -> None:
    for i in range(5):
        photo(tmp_path / "images" / f"{i}.jpg")
        write(tmp_path / "masks" / f"{i}.png", mask((0, 1)))
    with pytest.raises(DataError, match=r"has no parts\. Training takes a part train"):
        open_mask_splits(tmp_path)
    splits = open_mask_splits(tmp_path, val_split=0.4)
    assert (len(splits.train), len(splits.test)) == (3, 2)
    assert splits.test.target(0).shape == SIZE
    assert open_mask_test(tmp_path)[0] == str(tmp_path)


def test_masks_are_looked_at_before_they_are_opened_for_training(make: Make) -> None:
    root = make((mask((0, 9)),))
    for opened in (open_mask_splits, open_mask_test):
        with pytest.raises(DataError, match="cannot be trained on"):
            opened(root if opened is open_mask_splits else make(val=(mask((0, 9)),)))


def test_outlines_of_a_coco_file_are_painted_the_smaller_over_the_larger(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        photo(tmp_path / part / "a.png", (6, 8))
        polygons = {1: [[0, 0, 8, 0, 8, 6, 0, 6]], 2: [[2, 2, 5, 2, 5, 4, 2, 4]]}
        annotations = [
            {
                "id": k,
                "image_id": 1,
                "category_id": k,
                "segmentation": polygons[k],
                "bbox": box,
                "area": area,
                "iscrowd": 0,
            }
            for k, box, area in ((2, [2, 2, 3, 2], 6), (1, [0, 0, 8, 6], 48))
        ]
        content = {
            "images": [{"id": 1, "file_name": "a.png", "height": 6, "width": 8}],
            "categories": [{"id": 1, "name": "sky"}, {"id": 2, "name": "kite"}],
            "annotations": annotations,
        }
        (tmp_path / part / "_annotations.coco.json").write_text(json.dumps(content))
    splits = open_mask_splits(tmp_path)
    assert splits.train.class_names == ("background", "sky", "kite")
    expected = np.ones((6, 8), dtype=np.uint8)
    expected[2:4, 2:5] = 2
    assert np.array_equal(splits.test.target(0).numpy(), expected)
    report = check_masks(open_mask_parts(tmp_path))
    assert report.problems == []
    assert report.pixels["train"] == [0, 42, 6]


def test_the_command_checks_masks(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    root = make()
    assert main(["data", "check", str(root)]) == 0
    said = capsys.readouterr().out
    assert "3 pictures with masks of 3 classes" in said
    assert "No problem found." in said
    write(root / "masks" / "train" / "0.png", mask((0, 9)))
    assert main(["data", "check", str(root)]) == 1
    assert "holds values 0, 9" not in (said := capsys.readouterr().out)
    assert "0.png holds value 9, but there are 3 classes: 0 to 2" in said
    assert main(["data", "check", str(root), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["broken"][0]["part"] == "train"
