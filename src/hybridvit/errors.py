"""The errors a user can meet. Each message says what was read, what was expected and what to do next."""

from collections.abc import Collection


class HybridVitError(ValueError):
    """Base of all errors that a user can cause and mend. The command line prints it without a traceback."""


class ConfigError(HybridVitError):
    """A recipe, an override or a command-line value is wrong."""


class DataError(HybridVitError):
    """A picture, a folder of pictures or a list of labels is wrong."""


class CheckpointError(HybridVitError):
    """A weights file cannot be read, is not what it claims, or does not fit the model."""


class DownloadError(HybridVitError):
    """A published file cannot be fetched."""


class TrainingError(HybridVitError):
    """Training cannot go on: non-finite losses, an unusable data set, a full disk."""


def some(names: Collection[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(list(names)[:most]) + more
