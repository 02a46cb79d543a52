"""Ways of learning from pictures: a file each, and one protocol for all (task.py)."""

from importlib import import_module
from typing import TYPE_CHECKING

from hybridvit.config import RECIPE_TYPES
from hybridvit.errors import ConfigError

if TYPE_CHECKING:
    from hybridvit.tasks.task import Task


def find_task(name: str) -> "Task":
    """The task of this name: `TASK` of the file of this name, which is imported now. Raises: ConfigError."""
    if name not in RECIPE_TYPES:
        raise ConfigError(f"There is no task {name!r}; known are {', '.join(RECIPE_TYPES)}.")
    task: Task = import_module(f"{__name__}.{name}").TASK
    return task
