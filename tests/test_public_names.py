"""hybridvit/__init__.py: what it offers is there, without importing torch before it is needed."""

import inspect
from pathlib import Path

import pytest

import hybridvit


@pytest.mark.parametrize("name", hybridvit.__all__)
def test_every_public_name_can_be_called_each_time_it_is_asked_for(name: str) -> None:
    for _ in range(2):
        assert callable(getattr(hybridvit, name))
    assert name in dir(hybridvit)


def test_public_names_are_sorted_and_known_to_type_checkers() -> None:
    assert hybridvit.__all__ == sorted(hybridvit._PUBLIC)
    source = inspect.getsource(hybridvit)
    for name in hybridvit.__all__:
        assert f"from {hybridvit._PUBLIC[name]} import {name} as {name}" in source


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="public names: Predictor, align, bench, check_data"):
        hybridvit.creat_model  # noqa: B018


def test_no_room_has_the_name_of_a_function_and_hides_it_once_imported() -> None:
    rooms = {path.stem for path in Path(hybridvit.__file__).parent.iterdir()}
    assert not rooms & set(hybridvit.__all__)
