"""output.py: whatever names and numbers hold, what comes out is UTF-8 and JSON."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridvit.output import printable, to_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(min_codepoint=0)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def strict(text: str) -> Any:
    """Refuses NaN, as other languages' readers do."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text.encode("utf-8"), parse_constant=refuse)


@given(VALUES)
def test_anything_comes_out_as_json_in_utf8(value: Any) -> None:
    strict(to_json({"value": value}))


def test_a_byte_that_is_no_utf8_is_spelt_out_in_names_keys_and_paths() -> None:
    name = os.fsdecode(b"caf\xe9.png")
    assert printable(name) == "caf\\udce9.png"
    assert strict(to_json({name: [name, Path(name)]})) == {"caf\\udce9.png": ["caf\\udce9.png"] * 2}


def test_good_text_stays_as_it_is() -> None:
    assert printable("Käse 猫 \\x") == "Käse 猫 \\x"
    assert "猫" in to_json("猫")


def test_numbers_of_numpy_are_numbers_and_those_that_are_not_finite_are_null() -> None:
    value = {"a": np.float32(0.5), "b": np.arange(2), "c": float("nan"), "d": [np.inf, -np.inf], "e": (1, 2)}
    assert strict(to_json(value)) == {"a": 0.5, "b": [0, 1], "c": None, "d": [None, None], "e": [1, 2]}


def test_what_has_no_place_in_json_is_an_error_and_not_a_word() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        to_json(object())
