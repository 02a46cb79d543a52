"""data/loose.py: pictures by name and by folder."""

from pathlib import Path

import pytest

from hybridvit.data.loose import LooseSource, list_pictures
from hybridvit.errors import DataError


def test_folders_give_their_pictures_at_any_depth_and_files_stand_as_named(tmp_path: Path) -> None:
    for name in ("b/deep/2.JPG", "b/1.png", "b/.hidden.png", "b/notes.txt", "odd.name"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = list_pictures([tmp_path / "odd.name", tmp_path / "b"])
    assert found == [tmp_path / "odd.name", tmp_path / "b" / "1.png", tmp_path / "b" / "deep" / "2.JPG"]


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no pictures"):
        list_pictures([tmp_path])
    with pytest.raises(DataError, match="does not exist"):
        list_pictures([tmp_path / "none"])


def test_loose_pictures_have_no_label(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"bytes")
    source = LooseSource([tmp_path / "a.png"], ["x", "y"])
    assert (len(source), source.labels, source.class_names) == (1, [-1], ("x", "y"))
    assert (source.name(0), source.read(0)) == (str(tmp_path / "a.png"), b"bytes")
