"""Results that are kept for when the same is asked again."""

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Kept:
    """The last few results of a computation on a tensor, by what else they depend on; dropped when the tensor has changed.

    Safe for threads. A copy, also by pickle, starts empty: what is kept may be opaque.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._lock = Lock()
        self._results: dict[Hashable, tuple[Tensor, tuple[int, int], Any]] = {}

    def get(self, key: Hashable, source: Tensor, make: Callable[[], T]) -> T:
        """The result for `key`, made by `make` from `source` unless it is at hand; it carries no gradient."""
        stamp = (source.data_ptr(), 0 if source.is_inference() else source._version)
        with self._lock:
            kept = self._results.pop(key, None)
            if kept is not None and kept[0] is source and kept[1] == stamp:
                self._results[key] = kept  # behind the others: the first is the one not asked for the longest
                return kept[2]
        with torch.inference_mode(False), torch.no_grad():  # what inference leaves behind must serve training, too
            result = make()
        with self._lock:
            self._results[key] = source, stamp, result
            if len(self._results) > self.size:
                del self._results[next(iter(self._results))]
        return result

    def __reduce__(self) -> tuple[type["Kept"], tuple[int]]:
        return Kept, (self.size,)
