"""COCO, YOLO and VOC: the same pictures read alike, and every fault named, mended by a stated rule or refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_masks
from PIL import Image
from pycocotools import mask as pycocotools_masks

from hybridvit.cli.main import main
from hybridvit.data.decode import decode
from hybridvit.data.detection.opening import find_boxes
from hybridvit.data.detection.tidy import run_lengths
from hybridvit.errors import DataError

ROWS, COLUMNS = 40, 60
POLYGON = [10.0, 5.0, 30.0, 5.0, 30.0, 25.0, 10.0, 25.0]
SQUARE = [10.0, 5.0, 20.0, 20.0]


def picture(path: Path, *, orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (COLUMNS, ROWS), (40, 80, 120)).save(path, exif=exif)


def coco(count: int = 2, **annotation: Any) -> dict[str, Any]:
    """`count` pictures, one object each: a cat on even ones, a dog on odd ones. annotation: changes the first object."""
    images = [{"id": i + 1, "file_name": f"{i}.jpg", "height": ROWS, "width": COLUMNS} for i in range(count)]
    annotations = [
        {"id": i + 1, "image_id": i + 1, "category_id": 7 + 10 * (i % 2), "bbox": SQUARE, "area": 400.0, "iscrowd": 0}
        for i in range(count)
    ]
    annotations[0] |= annotation
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 7, "name": "cat"}, {"id": 17, "name": "dog"}],
    }


def write(root: Path, contents: dict[str, Any], part: str = "train") -> Path:
    folder = root / part
    folder.mkdir(parents=True, exist_ok=True)
    for image in contents["images"]:
        name = str(image["file_name"])
        if "/" not in name and "\\" not in name:
            picture(folder / name)
    (folder / "_annotations.coco.json").write_text(json.dumps(contents))
    return root


def opened(root: Path, part: str = "train", class_names: Any = None) -> Any:
    return find_boxes(root)[part](class_names)


def test_coco_beside_and_apart_are_found_and_read(tmp_path: Path) -> None:
    write(tmp_path / "beside", coco())
    write(tmp_path / "beside", coco(), "valid")
    for part in ("train2017", "val2017"):
        for i in range(2):
            picture(tmp_path / "apart" / part / f"{i}.jpg")
        (tmp_path / "apart" / "annotations").mkdir(exist_ok=True)
        (tmp_path / "apart" / "annotations" / f"instances_{part}.json").write_text(json.dumps(coco()))
    assert list(find_boxes(tmp_path / "beside")) == ["train", "valid"]
    assert list(find_boxes(tmp_path / "apart")) == ["train", "val"]
    for source in (opened(tmp_path / "beside"), opened(tmp_path / "apart", "val")):
        assert source.class_names == ("cat", "dog")
        assert len(source) == 2
        objects = source.target(1)
        assert objects.size == (ROWS, COLUMNS)
        assert objects.boxes_N4.tolist() == [[10, 5, 30, 25]]
        assert objects.labels_N.tolist() == [1]
        assert objects.outlines is None
        assert decode(source.read(1), name=source.name(1)).size == (COLUMNS, ROWS)


def test_yolo_and_voc_are_found_and_read_as_coco_is(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        picture(tmp_path / "yolo" / part / "images" / "a.jpg")
        (tmp_path / "yolo" / part / "labels").mkdir()
        (tmp_path / "yolo" / part / "labels" / "a.txt").write_text(f"1 {20 / 60} {15 / 40} {20 / 60} {20 / 40}\n\n")
    (tmp_path / "yolo" / "data.yaml").write_text("train: ../train/images\nval: valid/images\nnames: [cat, dog]\n")
    picture(tmp_path / "voc" / "JPEGImages" / "a.jpg")
    (tmp_path / "voc" / "Annotations").mkdir()
    (tmp_path / "voc" / "Annotations" / "a.xml").write_text(
        "<annotation><filename>a.jpg</filename><size><width>60</width><height>40</height></size>"
        "<object><name>dog</name><bndbox><xmin>11</xmin><ymin>6</ymin><xmax>30</xmax><ymax>25</ymax></bndbox></object>"
        "<object><name>cat</name><difficult>1</difficult>"
        "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object></annotation>"
    )
    lists = tmp_path / "voc" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for part in ("train", "val"):
        (lists / f"{part}.txt").write_text("a\n")
    yolo, voc = opened(tmp_path / "yolo", "val"), opened(tmp_path / "voc")
    for source in (yolo, voc):
        assert source.class_names == ("cat", "dog")
        objects = source.target(0)
        assert objects.boxes_N4[0].tolist() == pytest.approx([10, 5, 30, 25])
        assert objects.labels_N[0] == 1
    assert voc.target(0).crowd_N.tolist() == [False, True]
    assert list(voc.counts.notes) == ["1 objects marked difficult: neither learnt nor counted (a.xml, object 2)"]


def test_a_polygon_of_yolo_is_an_outline(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "train" / "a.jpg")
    (tmp_path / "labels" / "train").mkdir(parents=True)
    shares = [value / (COLUMNS, ROWS)[i % 2] for i, value in enumerate(POLYGON)]
    (tmp_path / "labels" / "train" / "a.txt").write_text("0 " + " ".join(map(str, shares)))
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images/train\nnames: {0: cat}\n")
    objects = opened(tmp_path).target(0)
    assert objects.boxes_N4.tolist() == [pytest.approx([10, 5, 30, 25])]
    assert objects.masks().sum() == 400
    assert objects.masks()[0, 5:25, 10:30].all()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools on numpy 2
def test_outlines_by_polygon_and_by_both_kinds_of_runs_are_pycocotools_masks(tmp_path: Path) -> None:
    triangle = [3.2, 4.1, 50.7, 8.3, 20.4, 38.8]
    mask = np.zeros((ROWS, COLUMNS), dtype=np.uint8, order="F")
    mask[3:30:2, 5:50] = 1
    packed = pycocotools_masks.encode(mask)
    runs = np.flatnonzero(np.diff(np.concatenate(([0], mask.ravel(order="F"), [2])))).tolist()
    counts = np.diff([0, *runs]).tolist()
    contents = coco(3)
    outlines = [
        [triangle],
        {"size": [ROWS, COLUMNS], "counts": packed["counts"].decode()},
        {"size": [ROWS, COLUMNS], "counts": counts},
    ]
    for annotation, outline in zip(contents["annotations"], outlines, strict=True):
        annotation["segmentation"] = outline
    source = opened(write(tmp_path, contents))
    expected = pycocotools_masks.decode(pycocotools_masks.frPyObjects([triangle], ROWS, COLUMNS))[..., 0]
    assert np.array_equal(source.target(0).masks()[0], expected)
    assert np.array_equal(source.target(1).masks()[0], mask)
    assert np.array_equal(source.target(2).masks()[0], mask)
    assert run_lengths(packed["counts"].decode()) == counts


def test_compressed_runs_of_random_masks_are_read_as_the_library_reads_them() -> None:
    draws = np.random.default_rng(0)
    for _ in range(50):
        mask = np.asfortranarray(draws.random((17, 23)) < draws.random()).astype(np.uint8)
        runs = run_lengths(pycocotools_masks.encode(np.asfortranarray(mask))["counts"].decode())
        assert sum(runs) == mask.size
        assert np.array_equal(
            coco_masks.decode(coco_masks.frPyObjects({"size": [17, 23], "counts": runs}, 17, 23)), mask
        )


def test_classes_are_matched_by_name_whatever_their_ids_and_order(tmp_path: Path) -> None:
    contents = coco()
    contents["categories"] = [{"id": 0, "name": "dog"}, {"id": 90, "name": " cat"}]
    contents["annotations"][0]["category_id"] = 90
    contents["annotations"][1]["category_id"] = 0
    write(tmp_path, coco())
    write(tmp_path, contents, "val")
    train = opened(tmp_path)
    val = opened(tmp_path, "val", train.class_names)
    assert val.class_names == train.class_names
    assert [val.target(i).labels_N.tolist() for i in range(2)] == [[0], [1]]
    contents["categories"][1]["name"] = "Cat"
    write(tmp_path, contents, "val")
    with pytest.raises(DataError, match=r"has the classes Cat, which the training part lacks\. It has cat, dog"):
        opened(tmp_path, "val", train.class_names)


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
@pytest.mark.parametrize("frame", ["of the upright picture", "of the stored picture"])
def test_boxes_follow_exif(tmp_path: Path, orientation: int, frame: str) -> None:
    """A red patch is painted where the box says, in the frame that the file's size tells."""
    contents = coco(1, segmentation=[[10, 5, 20, 5, 20, 25, 10, 25]], bbox=[10, 5, 10, 20])
    contents["annotations"] = contents["annotations"][:1]
    turned = orientation in (5, 6, 7, 8)
    if turned and frame == "of the upright picture":
        contents["images"][0] |= {"height": COLUMNS, "width": ROWS}
    write(tmp_path, contents)
    pixels = np.zeros((ROWS, COLUMNS, 3), np.uint8)
    if not turned or frame == "of the stored picture":
        if orientation == 3:
            pixels[ROWS - 25 : ROWS - 5, COLUMNS - 20 : COLUMNS - 10, 0] = 255
        else:
            pixels[5:25, 10:20, 0] = 255
    else:
        upright = np.zeros((COLUMNS, ROWS, 3), np.uint8)
        upright[5:25, 10:20, 0] = 255
        back = {
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90,
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270,
        }
        pixels = np.asarray(Image.fromarray(upright).transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "train" / "0.jpg"
    Image.fromarray(pixels).save(file, format="PNG", exif=exif)
    source = opened(tmp_path)
    objects = source.target(0)
    shown = np.asarray(decode(source.read(0), name="0.jpg"))[..., 0] > 128
    assert objects.size == shown.shape
    assert np.array_equal(objects.masks()[0], shown)
    left, top, right, bottom = objects.boxes_N4[0].int().tolist()
    assert shown[top:bottom, left:right].all()
    assert shown.sum() == (right - left) * (bottom - top) == 200


def test_a_size_that_is_neither_the_stored_nor_the_upright_one_is_refused(tmp_path: Path) -> None:
    contents = coco()
    contents["images"][0] |= {"height": 80, "width": 120}
    source = opened(write(tmp_path, contents))
    with pytest.raises(DataError, match=r"has 40 rows and 60 columns, .* says 80 and 120"):
        source.target(0)


@pytest.mark.parametrize(
    ("annotation", "box", "note"),
    [
        ({"bbox": [50, 30, 20, 20]}, [50, 30, 60, 40], "1 boxes reaching over the border: cut at it"),
        ({"bbox": [10, 5, 0, 20]}, None, "1 boxes without area on the picture: left out (0.jpg, annotation 1)"),
        ({"bbox": [70, 5, 10, 20]}, None, "1 boxes without area on the picture: left out"),
        ({"id": 0}, [10, 5, 30, 25], "1 annotations of id 0, which other evaluators take for nothing found"),
        (
            {"segmentation": POLYGON},
            [10, 5, 30, 25],
            "1 outlines that are a flat list of points: taken for one polygon",
        ),
        ({"segmentation": SQUARE}, [10, 5, 30, 25], "1 outlines that are four numbers, or no pairs: left out"),
        ({"segmentation": [[1, 2, 3, 4], POLYGON]}, [10, 5, 30, 25], "1 polygons of fewer than three points: left out"),
        ({"segmentation": [POLYGON]}, [10, 5, 30, 25], "1 objects without an outline among others that have one"),
        ({"iscrowd": None, "area": None}, [10, 5, 30, 25], ""),
    ],
)
def test_what_is_mended_is_counted(tmp_path: Path, annotation: dict[str, Any], box: Any, note: str) -> None:
    source = opened(write(tmp_path, coco(**annotation)))
    assert source.target(0).boxes_N4.tolist() == ([] if box is None else [box])
    assert any(found.startswith(note) for found in source.counts.notes) or not note
    assert source.target(1).boxes_N4.tolist() == [[10, 5, 30, 25]]
    if "segmentation" in annotation:
        assert source.target(0).masks()[0, 5:25, 10:30].all()
        assert source.target(0).masks().sum() == 400


def test_pictures_without_objects_and_classes_without_any_are_kept_and_said(tmp_path: Path) -> None:
    contents = coco(3)
    contents["annotations"] = contents["annotations"][:1]
    source = opened(write(tmp_path, contents))
    assert [len(source.target(i)) for i in range(3)] == [1, 0, 0]
    assert source.class_names == ("cat", "dog")
    assert list(source.counts.notes) == [
        "2 pictures without objects: kept as examples of background",
        "1 classes without objects: kept (dog)",
    ]


def test_a_name_in_other_capitals_is_found(tmp_path: Path) -> None:
    write(tmp_path, coco())
    (tmp_path / "train" / "1.jpg").rename(tmp_path / "train" / "1.JPG")
    source = opened(tmp_path)
    assert source.name(1).endswith("1.JPG")
    assert list(source.counts.notes) == [
        "1 names that differ in capitals from the pictures' files: taken for the same (1.jpg)"
    ]


def spoil(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    contents = coco(12)
    change(contents)
    return contents


def each_box(box: list[float]) -> dict[str, Any]:
    contents = coco(12)
    for annotation in contents["annotations"]:
        annotation["bbox"] = box
    return contents


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (coco(bbox=[10, 5, float("nan"), 20]), "1 boxes with a number that is none: .* \\(0.jpg, annotation 1\\)"),
        (coco(bbox=[10, "5", 20, 20]), "1 boxes with a number that is none"),
        (coco(bbox=[30, 5, -20, 20]), "1 boxes whose corners are in the wrong order"),
        (each_box([0.1, 0.2, 0.5, 0.5]), "boxes that all lie between 0 and 1 in a file of pixels"),
        (each_box([25, 15, 55, 38]), "boxes reach over the border as x, y, width, height, and fit as left"),
        (coco(category_id=8), "1 objects of a class that is not declared \\(declared: 7, 17\\) .*annotation 1: 8"),
        (coco(image_id=99), "1 annotations of a picture that is not listed"),
        (coco(segmentation=[[1, 2, 3, 4, 5, "6"]]), "1 outlines that are no lists of x, y"),
        (
            coco(segmentation={"size": [60, 40], "counts": [2400]}),
            "1 outlines by runs of another size than the picture's",
        ),
        (coco(segmentation={"size": [40, 60], "counts": [2399]}), "1 outlines whose runs do not add up"),
        (coco(segmentation={"size": [40, 60], "counts": "zzzz"}), "1 outlines whose runs do not add up"),
        (spoil(lambda c: c["images"][1].update(file_name="../1.jpg")), "1 pictures named outside the folder"),
        (spoil(lambda c: c["images"][1].update(file_name="sub/1.jpg")), "1 pictures missing below .* \\(sub/1.jpg\\)"),
        (spoil(lambda c: c["images"][1].update(file_name="0.JPG")), "1 pictures named twice"),
        (spoil(lambda c: c["images"][1].update(id=1)), "1 pictures whose id another one has"),
        (spoil(lambda c: c["categories"][1].update(id=7)), "gives two categories the id 7"),
        (spoil(lambda c: c["categories"][1].update(name="cat ")), "declares cat twice"),
        (spoil(lambda c: c.update(categories=[])), "declares no classes"),
        (spoil(lambda c: c.update(annotations=[])), "has no object that could be learnt on any of its 12 pictures"),
        (spoil(lambda c: c["annotations"][0].pop("category_id")), "an entry lacks 'category_id'"),
        (spoil(lambda c: c.update(annotations={})), "it needs the lists images, annotations and categories"),
    ],
)
def test_what_is_refused_says_why_and_where(tmp_path: Path, contents: dict[str, Any], message: str) -> None:
    write(tmp_path, contents)
    with pytest.raises(DataError, match=message):
        opened(tmp_path)


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    contents = coco(4, bbox=[30, 5, -20, 20])
    contents["annotations"][1]["category_id"] = 99
    contents["annotations"][2]["bbox"] = [30, 5, -2, 20]
    with pytest.raises(DataError, match=r"2 boxes whose corners.*\n  1 objects of a class") as error:
        opened(write(tmp_path, contents))
    assert "cannot be trained on as it is" in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2", "1 lines that are not a class and a box"),
        ("2 0.5 0.5 0.2 0.2", "1 objects of a class that is not declared \\(declared: 0, 1\\)"),
        ("0 30 20 20 20", "1 boxes of more than 1 in a file of shares"),
        ("0 nan 0.5 0.2 0.2", "1 boxes with a number that is none"),
        ("0 0.5 0.5 -0.2 0.2", "1 boxes whose corners are in the wrong order"),
    ],
)
def test_faults_in_yolos_lines(tmp_path: Path, line: str, message: str) -> None:
    picture(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(f"1 0.5 0.5 0.1 0.1\n{line}\n")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat, dog]\n")
    with pytest.raises(DataError, match=f"{message}.*a.(txt|jpg), line 2"):
        opened(tmp_path)


def test_a_missing_label_file_is_background_and_a_missing_picture_is_said(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / "images" / f"{name}.jpg")
    (tmp_path / "labels").mkdir()
    for name in ("a", "c"):
        (tmp_path / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.1 0.1")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat]\n")
    source = opened(tmp_path)
    assert [len(source.target(i)) for i in range(2)] == [1, 0]
    assert list(source.counts.notes) == [
        "1 pictures without a label file: taken for background (b.jpg)",
        "1 label files without a picture: left out (c.txt)",
        "1 pictures without objects: kept as examples of background",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: images\n", "names no classes"),
        ("train: [a, b]\nnames: [cat]\n", "train must be a folder of pictures"),
        ("train: ../../elsewhere\nnames: [cat]\n", "no such folder lies below"),
        ("train: images\ntrain: images\nnames: [cat]\n", "twice|duplicate"),
        ("- a\n", "it needs train, val and names"),
    ],
)
def test_faults_in_data_yaml(tmp_path: Path, text: str, message: str) -> None:
    picture(tmp_path / "images" / "a.jpg")
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<annotation>", "cannot be read as XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "declares entities"),
        ("<annotation><filename>b.jpg</filename></annotation>", "1 pictures missing below .*b.jpg"),
    ],
)
def test_faults_in_voc(tmp_path: Path, xml: str, message: str) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.xml").write_text(xml)
    with pytest.raises(DataError, match=message):
        opened(tmp_path, class_names=("cat",))


def test_hundreds_of_objects_are_read(tmp_path: Path) -> None:
    contents = coco(1)
    first = contents["annotations"][0]
    contents["annotations"] = [first | {"id": i, "bbox": [i % 50, i % 30, 8, 8]} for i in range(1, 701)]
    assert len(opened(write(tmp_path, contents)).target(0)) == 700


def test_a_folder_of_classes_is_no_such_layout(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "cat" / "0.jpg")
    assert find_boxes(tmp_path) == {}


def test_the_check_counts_objects_and_names_what_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = coco(4, bbox=[50, 30, 20, 20])
    contents["annotations"][2]["iscrowd"] = 1
    contents["images"][3] |= {"height": 80, "width": 120}
    write(tmp_path, contents)
    write(tmp_path, coco(1), "valid")
    assert main(["data", "check", str(tmp_path), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["pictures"] == {"train": 4, "valid": 1}
    assert report["objects"] == {"train": [1, 1], "valid": [1, 0]}
    assert report["crowds"] == {"train": 1, "valid": 0}
    assert report["notes"]["train"] == ["1 boxes reaching over the border: cut at it (0.jpg, annotation 1)"]
    assert len(report["problems"]) == 2
    assert "says 80 and 120" in report["problems"][0]
    assert "valid/0.jpg is the same picture as" in report["problems"][1]
    assert main(["data", "check", str(tmp_path)]) == 1
    assert "Problem: " in capsys.readouterr().out


def test_the_check_refuses_what_training_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, coco(category_id=8))
    assert main(["data", "check", str(tmp_path)]) == 2
    assert "1 objects of a class that is not declared" in capsys.readouterr().err
