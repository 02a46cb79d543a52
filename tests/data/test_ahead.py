import threading
from collections.abc import Iterator

import pytest

from hybridvit.data.ahead import ahead


def test_items_come_in_order_and_each_once() -> None:
    assert list(ahead(range(20), depth=3)) == list(range(20))


def test_the_next_item_is_made_while_this_one_is_in_use() -> None:
    second_is_made = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        second_is_made.set()
        yield 2

    reader = ahead(items())
    assert next(reader) == 1
    assert second_is_made.wait(10)
    assert list(reader) == [2]


def test_an_error_is_raised_where_its_item_would_have_come() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    reader = ahead(items())
    assert next(reader) == 1
    with pytest.raises(ValueError, match="broken"):
        next(reader)


def test_leaving_early_ends_the_thread() -> None:
    before = threading.active_count()
    for item in ahead(range(10**6)):
        if item == 3:
            break
    assert threading.active_count() == before
