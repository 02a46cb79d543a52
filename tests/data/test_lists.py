"""data/readers/lists.py: every way to write a path and a label on a line."""

from pathlib import Path

import pytest

from hybridvit.data.opening import open_test
from hybridvit.data.readers.lists import read_list
from hybridvit.data.unlabelled import open_unlabelled
from hybridvit.errors import DataError


def pairs(folder: Path, text: str, name: str = "list.txt") -> list[tuple[str, str]]:
    (folder / name).write_text(text, encoding="utf-8")
    source = read_list(folder / name)
    return [(source.places[i], source.class_names[source.labels[i]]) for i in range(len(source))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.jpg 0\nb.jpg 1\n", [("a.jpg", "0"), ("b.jpg", "1")]),
        ("a.jpg, cat\nb.jpg,dog", [("a.jpg", "cat"), ("b.jpg", "dog")]),
        ("my cat.jpg cat\nb.JPEG sea lion", [("my cat.jpg", "cat"), ("b.JPEG", "sea lion")]),
        ("my cat.jpg\tcat, asleep\nb.jpg\tdog", [("my cat.jpg", "cat, asleep"), ("b.jpg", "dog")]),
        ('"a, b.jpg", cat\n"c d.jpg", dog', [("a, b.jpg", "cat"), ("c d.jpg", "dog")]),
        ('"c d.jpg" dog\ne.jpg cat', [("c d.jpg", "dog"), ("e.jpg", "cat")]),
        ("a.jpg copy.jpg 0\nb.jpg 1", [("a.jpg copy.jpg", "0"), ("b.jpg", "1")]),
        ("filename,label\na.jpg,cat\nb.jpg,dog", [("a.jpg", "cat"), ("b.jpg", "dog")]),
        ("# a comment\n\n  ./x/../a.jpg 0  \nb.jpg 1", [("a.jpg", "0"), ("b.jpg", "1")]),
        ("\ufeffä.jpg 0\nb.jpg 1", [("ä.jpg", "0"), ("b.jpg", "1")]),
        ("without_suffix 0\nanother 1", [("without_suffix", "0"), ("another", "1")]),
        ("a.jpg 2\nb.jpg 10\nc.jpg x", [("a.jpg", "2"), ("b.jpg", "10"), ("c.jpg", "x")]),
    ],
)
def test_lines_are_understood(tmp_path: Path, text: str, expected: list[tuple[str, str]]) -> None:
    assert pairs(tmp_path, text) == expected


def test_numbers_are_places_and_not_sorted_as_words(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n".join(f"{k}.jpg {k}" for k in (10, 2, *range(10)) if k != 99))
    source = read_list(tmp_path / "list.txt")
    assert source.class_names == tuple(map(str, range(11)))
    assert source.labels[:2] == [10, 2]


def test_classes_txt_names_the_numbers(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("cat\ndog\nowl\n")
    assert pairs(tmp_path, "a.jpg 2\nb.jpg 0") == [("a.jpg", "owl"), ("b.jpg", "cat")]
    assert pairs(tmp_path, "a.jpg owl\nb.jpg cat") == [("a.jpg", "owl"), ("b.jpg", "cat")]


def test_paths_start_from_the_root_that_is_given(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.jpg").write_bytes(b"here")
    (tmp_path / "list.txt").write_text(f"a.jpg 0\n{tmp_path}/pictures/a.jpg 1")
    source = read_list(tmp_path / "list.txt", root=tmp_path / "pictures")
    assert [source.read(i) for i in (0, 1)] == [b"here", b"here"]


@pytest.mark.parametrize("path", ["../secret.jpg", "a/../../secret.jpg", "/etc/secret.jpg", ".."])
def test_a_list_that_points_outside_its_root_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError, match=r"list\.txt, line 2: .* lies outside"):
        pairs(tmp_path, f"a.jpg 0\n{path} 1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no pictures"),
        ("a.jpg,cat,3\n", r"line 1: expected a path and a label, found 'a\.jpg, cat, 3'"),
        ("a.jpg 0\nlonely\n", "line 2: expected a path and a label"),
        ("a.jpg 1\nb.jpg 2\n", "labels run from 1 to 2, but 0 has no picture"),
    ],
)
def test_what_is_unclear_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        pairs(tmp_path, text)


def test_a_label_beyond_the_class_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match="label 2 is not among the 2 classes"):
        pairs(tmp_path, "a.jpg 0\nb.jpg 2")
    (tmp_path / "classes.txt").write_text("cat\ncat\n")
    with pytest.raises(DataError, match="names cat more than once"):
        pairs(tmp_path, "a.jpg 0")


@pytest.mark.parametrize(
    "header",
    [
        "image_id,label",
        "img_path,class",
        "filename,target",
        "Image ID,Class Name",
        "file_name,species",
        "id,y",
        "x,label",
    ],
)
def test_names_of_columns_in_the_first_line_are_no_picture(tmp_path: Path, header: str) -> None:
    expected = [(f"{k}.png", str(k % 2)) for k in range(4)]
    lines = [",".join(pair) for pair in expected]
    assert pairs(tmp_path, "\n".join([header, *lines]), "list.csv") == expected
    swapped = [",".join(reversed(pair)) for pair in expected]
    if header != "x,label":
        turned = ",".join(reversed(header.split(",")))
        assert pairs(tmp_path, "\n".join([turned, *swapped]), "list.csv") == expected


def test_names_of_columns_are_known_by_themselves_where_pictures_have_no_ending(tmp_path: Path) -> None:
    assert pairs(tmp_path, "id,label\n0001,0\n0002,1", "list.csv") == [("0001", "0"), ("0002", "1")]
    assert pairs(tmp_path, "name,species\nx,cat\ny,dog", "list.csv") == [("x", "cat"), ("y", "dog")]


def test_of_many_columns_those_with_known_names_are_taken(tmp_path: Path) -> None:
    text = "width,image_path,label,split\n640,a.png,cat,train\n480,b.png,dog,train"
    assert pairs(tmp_path, text, "list.csv") == [("a.png", "cat"), ("b.png", "dog")]


def test_columns_may_be_chosen_by_name_or_number(tmp_path: Path) -> None:
    text = "width,picture_of,kind,colour\n640,a.png,cat,red\n480,b.png,dog,blue"
    (tmp_path / "list.csv").write_text(text)
    for columns, labels in ((("picture_of", "colour"), ("blue", "red")), (("picture_of", "kind"), ("cat", "dog"))):
        assert read_list(tmp_path / "list.csv", columns=columns).class_names == labels
    (tmp_path / "plain.csv").write_text(text.partition("\n")[2])
    assert read_list(tmp_path / "plain.csv", columns=("2", "4")).class_names == ("blue", "red")
    with pytest.raises(DataError, match="has no column size; line 1 names width, picture_of"):
        read_list(tmp_path / "list.csv", columns=("size", "kind"))
    with pytest.raises(DataError, match="has 4 columns, numbered from 1"):
        read_list(tmp_path / "plain.csv", columns=("2", "5"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one,two\na.png,0\nb.png,1", r"line 1 \(one, two\) does not fit the lines below it"),
        ("one,two\n7,0\n8,1", r"line 1 \(one, two\) does not fit the lines below it"),
        ("image,label,label_name\na.png,0,cat\nb.png,1,dog", "is not clear. Choose with --columns"),
        ("path,label\na, b.png,0\nc.png,1", "line 2: expected 2 columns, found 'a, b.png, 0'"),
    ],
)
def test_a_first_line_that_is_neither_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        pairs(tmp_path, text, "list.csv")


def test_a_sharp_begins_a_comment_unless_a_picture_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "#1.png").touch()
    text = "# about\n#1.png 0\n#gone.png 1\n2.png 1\n##"
    assert pairs(tmp_path, text) == [("#1.png", "0"), ("2.png", "1")]
    assert read_list(tmp_path / "list.txt").counts.to_dict() == {
        "seen": 5,
        "taken": 2,
        "passed_over": {"comment lines": 3},
    }


@pytest.mark.parametrize("line", ["x\\0.png 0", "'x/0.png' 0", "'x\\0.png',0", "x/0.png;0", '"x/0.png"\t0'])
def test_paths_are_found_however_their_names_are_divided_or_quoted(tmp_path: Path, line: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "0.png").touch()
    assert pairs(tmp_path, line) == [("x/0.png", "0")]


def test_a_list_of_pictures_that_are_not_there_names_the_first_place_that_was_tried(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("x/0.png 0\nx/1.png 1")
    expected = rf"names 2 pictures, of which none is there. The first was looked for as {tmp_path}/x/0\.png.*--root"
    for opener in (open_test, lambda path: open_unlabelled([path])):
        with pytest.raises(DataError, match=expected):
            opener(tmp_path / "list.txt")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["list.csv", "classes.txt"])
def test_utf_16_is_told_how_to_save(tmp_path: Path, encoding: str, name: str) -> None:
    (tmp_path / "list.csv").write_text("a.jpg,cat\nb.jpg,dog")
    (tmp_path / name).write_text("a.jpg,cat\nb.jpg,dog", encoding=encoding)
    with pytest.raises(DataError, match=rf"{name} is written in UTF-16\. Save it as UTF-8"):
        read_list(tmp_path / "list.csv")


@pytest.mark.parametrize("encoding", ["utf-32", "utf-32-le", "utf-32-be"])
def test_utf_32_is_told_how_to_save(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "list.csv").write_text("a.jpg,cat\nb.jpg,dog", encoding=encoding)
    with pytest.raises(DataError, match=r"written in UTF-32\. .*iconv -f UTF-32 -t UTF-8"):
        read_list(tmp_path / "list.csv")


@pytest.mark.parametrize("data", [bytes(400), b"a.jpg,cat\nb.jp" + bytes(5), b"a.jpg,cat\n" * 300 + bytes(100), b"\0"])
def test_a_list_of_zeros_is_called_damaged_and_not_another_encoding(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "list.csv").write_bytes(data)
    with pytest.raises(DataError, match=rf"no text in UTF-8: byte {data.index(0)} is zero.*damaged"):
        read_list(tmp_path / "list.csv")


def test_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes("a.jpg,cat\nb.jpg,h\xf6rnchen".encode("latin-1"))
    with pytest.raises(DataError, match=r"line 2: expected UTF-8, found the byte 0xf6"):
        read_list(tmp_path / "list.csv")


def test_a_byte_order_mark_belongs_to_no_class_name(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("zero\r\none\r\n", encoding="utf-8-sig")
    assert pairs(tmp_path, "a.jpg zero\nb.jpg one") == [("a.jpg", "zero"), ("b.jpg", "one")]


def test_a_huge_label_is_a_gap_and_builds_nothing(tmp_path: Path) -> None:
    for label, gap in (("10000000", 2), ("9" * 18, 2), ("3", 2)):
        with pytest.raises(DataError, match=f"labels run from 0 to {label}, but {gap} has no picture"):
            pairs(tmp_path, f"a.jpg 0\nb.jpg 1\nc.jpg {label}")
    assert pairs(tmp_path, f"a.jpg 0\nc.jpg {'9' * 5000}")[1] == ("c.jpg", "9" * 5000)


def test_numbers_below_zero_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"label -1 is no class\. Count from 0, and leave out pictures without a label"):
        pairs(tmp_path, "a.jpg 0\nb.jpg 1\nc.jpg -1")
    assert pairs(tmp_path, "a.jpg -\nc.jpg 1")[1] == ("c.jpg", "1")


def test_two_unicode_forms_of_a_label_are_one_class(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.jpg caf\u00e9\nb.jpg cafe\u0301\nc.jpg tea", encoding="utf-8")
    source = read_list(tmp_path / "list.txt")
    assert (source.class_names, source.labels) == (("caf\u00e9", "tea"), [0, 0, 1])
    assert len(source.counts.notes) == 1
