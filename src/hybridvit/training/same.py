"""Whether a run that is to be resumed has the recipe and the pictures that it began with."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hybridvit.config import Recipe, recipe_from_dict
from hybridvit.data.source import Source
from hybridvit.errors import ConfigError

SAMPLES = 64
"""Pictures whose contents are compared, too: class folders that changed places may hold files of the same names."""


def data_digest(source: Source) -> str:
    """Of the pictures' names within their data set, their labels, and the contents of some, evenly spread."""
    names = [source.name(index) for index in range(len(source))]
    root = os.path.commonprefix([min(names), max(names)]).rpartition("/")[0]  # noqa: RUF071  letters, not parts of paths
    digest = hashlib.blake2b(digest_size=16)
    for name in names:
        digest.update(name[len(root) :].encode(errors="surrogateescape") + b"\0")
    digest.update(np.asarray(source.labels, dtype=np.int64).tobytes())
    for index in range(0, len(source), -(-len(source) // SAMPLES)):
        try:
            read = source.read(index)
            data = read if isinstance(read, bytes) else read.tobytes()
            digest.update(hashlib.blake2b(data).digest() + repr(source.target(index)).encode())
        except OSError:
            digest.update(b"unreadable")
    return digest.hexdigest()


def check_same_run(
    saved: Mapping[str, Any], recipe: Recipe, source: Source, *, device_batch: int, digest: str, out: Path
) -> None:
    """Refuse to go on with another recipe or other pictures; how the run is carried out may differ.

    Raises:
        ConfigError: every difference that changes what is computed.
    """
    began = recipe_from_dict(saved["recipe"], source="the recipe of the saved state")  # an older version's, perhaps
    old, new = flat(began.to_dict()), flat(recipe.to_dict())
    old["device_batch"], new["device_batch"] = saved["device_batch"], device_batch
    changed = [
        f"  {key}: {old.get(key)!r} when it began, now {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.startswith(("run.", "about."))
    ]
    if changed:
        raise ConfigError(
            f"{out} cannot be resumed with another recipe:\n"
            + "\n".join(changed)
            + "\nGive the values it began with, or start anew in another folder (--out)."
        )
    if saved["class_names"] != list(source.class_names) or saved["num_images"] != len(source):
        raise ConfigError(
            f"{out} began with {saved['num_images']} training pictures in {len(saved['class_names'])} classes; the "
            f"data set now has {len(source)} in {len(source.class_names)}. Restore it, or start anew."
        )
    if saved.get("data", digest) != digest:  # states of 0.1 have none
        raise ConfigError(
            f"{out} began with other training pictures: as many, but their names, contents or labels are not the same. "
            "Restore them, or start anew in another folder (--out)."
        )


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted keys."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return result
