"""Explanations: attention maps, attribution, figures, reports.

The room can be called, so that `hybridvit.explain(model, picture)` works whether or not one of its files was imported before.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridvit.explain.explanation import Explanation


class _Room(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> "Explanation":
        from hybridvit.explain.explanation import explain

        return explain(*args, **kwargs)


sys.modules[__name__].__class__ = _Room
