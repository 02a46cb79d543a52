"""Results that are kept for when the same is asked again."""

from collections.abc import Callable, Hashable
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Kept:
    """The last few results of a computation on a tensor, by what else they depend on; dropped when the tensor has changed.

    A change is what torch counts, and it counts none through `tensor.data`, which many moving averages write to. `by_value`
    compares the values as well: for small tensors that are trained.

    Safe for threads. A copy, also by pickle, starts empty: what is kept may be opaque.
    """

    def __init__(self, size: int, *, by_value: bool = False) -> None:
        self.size, self.by_value = size, by_value
        self._lock = Lock()
        self._results: dict[Hashable, tuple[Tensor, tuple[int, int], Tensor | None, Any]] = {}

    def get(self, key: Hashable, source: Tensor, make: Callable[[], T]) -> T:
        """The result for `key`, made by `make` from `source` unless it is at hand; it carries no gradient."""
        stamp = (source.data_ptr(), 0 if source.is_inference() else source._version)
        with self._lock:
            kept = self._results.pop(key, None)
            if kept is not None and kept[0] is source and kept[1] == stamp and _equals(source, kept[2]):
                self._results[key] = kept  # behind the others: the first is the one not asked for the longest
                return kept[3]
        with torch.inference_mode(False), torch.no_grad():  # what inference leaves behind must serve training, too
            values = source.clone() if self.by_value else None  # before the result: a change in between is one, too
            result = make()
        with self._lock:
            self._results[key] = source, stamp, values, result
            if len(self._results) > self.size:
                del self._results[next(iter(self._results))]
        return result

    def __reduce__(self) -> tuple[Callable[..., "Kept"], tuple[int]]:
        return partial(Kept, by_value=self.by_value), (self.size,)


def _equals(source: Tensor, values: Tensor | None) -> bool:
    return values is None or torch.equal(source, values)
