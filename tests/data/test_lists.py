"""data/readers/lists.py: every way to write a path and a label on a line."""

from pathlib import Path

import pytest

from hybridvit.data.readers.lists import read_list
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
