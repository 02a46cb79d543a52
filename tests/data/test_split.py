"""data/split.py: what is held out is a matter of the pictures' names alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hybridvit.data.readers.files import FileSource
from hybridvit.data.readers.folder import Folder, read_folder
from hybridvit.data.split import hold_out
from hybridvit.errors import DataError


def source_of(*counts: int, root: str = "x") -> FileSource:
    paths = [f"{k}/{i}.jpg" for k, count in enumerate(counts) for i in range(count)]
    labels = [k for k, count in enumerate(counts) for _ in range(count)]
    return FileSource(Folder(Path(root)), paths, class_names=[str(k) for k in range(len(counts))], labels=labels)


def test_every_picture_is_in_one_part_and_every_class_gives_its_share() -> None:
    splits = hold_out(source_of(100, 50, 3, 2), 0.2)
    assert np.bincount(splits.test.labels).tolist() == [20, 10, 1, 1]
    names = [part.name(i) for part in (splits.train, splits.test) for i in range(len(part))]
    assert len(set(names)) == len(names) == 155


def test_the_same_pictures_are_held_out_wherever_the_folder_lies() -> None:
    here, there = (hold_out(source_of(40, 40, root=root), 0.25).test for root in ("here", "else/where"))
    assert here.indices == there.indices
    assert here.indices != list(range(10)) + list(range(40, 50))


def test_added_pictures_move_few_others() -> None:
    before = hold_out(source_of(100), 0.2).test
    after = hold_out(source_of(110), 0.2).test
    assert len({before.name(i) for i in range(20)} & {after.name(i) for i in range(22)}) >= 17


def test_a_class_with_one_picture_keeps_it_for_training(make_pictures: Callable[..., Path]) -> None:
    splits = hold_out(source_of(1, 10), 0.5)
    assert np.bincount(splits.test.labels).tolist() == [0, 5]
    source = read_folder(make_pictures(train=1) / "train")
    with pytest.raises(DataError, match="Every class has a single picture"):
        hold_out(source, 0.5)


@pytest.mark.parametrize("share", [-0.1, 0.0, 1.0, 20])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(DataError, match="share between 0 and 1"):
        hold_out(source_of(4, 4), share)
