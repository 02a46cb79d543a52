"""What hypothesis thinks of: lists, class names and headers in any letters are understood or refused, never misread."""

import csv
import io
import tempfile
import unicodedata
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hybridvit.data.labels import number_labels, one_spelling
from hybridvit.data.layout import why_not
from hybridvit.data.readers.lists import read_list
from hybridvit.errors import DataError
from hybridvit.output import printable

quiet = settings(max_examples=150, derandomize=True, deadline=None, database=None)
LETTERS = st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"))
names = st.text(LETTERS, min_size=1, max_size=12).map(str.strip).filter(bool)
stems = st.text(LETTERS.filter(lambda c: c not in "/\\'\"#"), min_size=1, max_size=8).map(str.strip).filter(bool)


def listed(text: str, name: str = "list.csv") -> list[tuple[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_text(text, encoding="utf-8", newline="")
        source = read_list(Path(folder) / name)
        return [(source.places[i], source.class_names[source.target(i)]) for i in range(len(source))]


def as_csv(rows: list[tuple[str, str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows(rows)
    return buffer.getvalue()


@quiet
@given(st.lists(st.tuples(stems, names.filter(lambda n: not n.isdecimal())), min_size=2, max_size=6))
def test_what_csv_writes_is_what_is_read(pairs: list[tuple[str, str]]) -> None:
    rows = [(f"{stem}.png", unicodedata.normalize("NFC", label)) for stem, label in pairs if not stem.startswith(".")]
    if len(rows) < 2:
        return
    assert listed(as_csv(rows)) == rows
    assert listed(as_csv([("image_id", "label"), *rows])) == rows


@quiet
@given(st.text(max_size=200))
def test_any_text_is_a_list_or_an_error(text: str) -> None:
    for name in ("list.csv", "list.txt", "list.tsv"):
        try:
            found = listed(text.encode("utf-8", "ignore").decode("utf-8"), name)
        except DataError:
            continue
        assert found
        assert all(path and not path.startswith(("/", "../")) and label for path, label in found)


@quiet
@given(st.binary(max_size=200))
def test_any_bytes_are_a_list_or_an_error(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "list.txt").write_bytes(data)
        try:
            said = "list.txt" if len(read_list(Path(folder) / "list.txt")) else ""
        except DataError as error:
            said = str(error)
    assert "list.txt" in said


@quiet
@given(st.lists(names, min_size=1, max_size=20))
def test_every_label_is_numbered_as_the_name_it_has(labels: list[str]) -> None:
    if all(label.isdecimal() and label.isascii() for label in labels):
        labels = [f"n{label}" for label in labels]  # numbers have a rule of their own
    class_names, numbers, _ = number_labels(labels, None, source="it")
    assert len(set(class_names)) == len(class_names)
    same = (unicodedata.normalize("NFC", text) for text in labels)
    for number, label in zip(numbers, same, strict=True):
        found = unicodedata.normalize("NFC", class_names[number])
        assert found == label


@quiet
@given(st.lists(st.text(max_size=6), max_size=10), st.lists(st.text(max_size=6), max_size=4))
def test_names_of_one_look_get_one_spelling_and_others_keep_theirs(found: list[str], given_names: list[str]) -> None:
    spelling = one_spelling(found, given_names)
    assert spelling.keys() == set(found)
    for one in found:
        for other in found:
            alike = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
            assert (spelling[one] == spelling[other]) == alike
    assert {name: spelling[name] for name in found} == dict(one_spelling(reversed(found), given_names))


@quiet
@given(st.text(min_size=1, max_size=40))
def test_any_name_is_a_picture_or_has_a_reason_of_few_words(name: str) -> None:
    assert len(why_not(name) or "") < 60
    assert printable(name).encode("utf-8").decode("utf-8")
