"""Published weights: fetch the file that their publisher offers, check it, convert it, keep the result."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock

from hybridvit.errors import CheckpointError, DownloadError
from hybridvit.files import digest, replacing
from hybridvit.weights import checkpoint, convert, fetch
from hybridvit.weights.containers import DamagedError
from hybridvit.weights.published import HUB_FILE, WEIGHTS, Weights, find_weights


def cache_folder() -> Path:
    """Where converted weights are kept: $HYBRIDVIT_CACHE, or ~/.cache/hybridvit."""
    return Path(os.environ.get("HYBRIDVIT_CACHE") or "~/.cache/hybridvit").expanduser()


def download(name: str, *, file: str | Path | None = None, cache_dir: str | Path | None = None) -> Path:
    """The path of published weights as a checkpoint of ours, fetched and converted the first time.

    Args:
        name: "cvt_13" or, with a tag, "cvt_13.ms_in1k_384".
        file: the published file, when it was fetched by other means; it is checked and converted all the same.
        cache_dir: where the checkpoint is kept; by default `cache_folder()`.

    Raises: ConfigError for an unknown name; DownloadError, when nothing is published under it, when only a person can fetch it,
        when it cannot be fetched, and when what came is not what was expected.
    """
    tagged = find_weights(name)
    weights = WEIGHTS[tagged]
    folder = Path(cache_dir) if cache_dir else cache_folder()
    path = folder / f"{tagged}.safetensors"
    if path.is_file() and file is None:
        return path
    if file is not None and not Path(file).is_file():
        raise DownloadError(f"{file} is not a file. Name the published file of {tagged}, as it was fetched.")
    if weights.by_hand and file is None:
        raise DownloadError(f"{tagged} lies where only a person can fetch it: {weights.by_hand}. {_by_hand(tagged)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{tagged}.lock"):  # the ranks of one training all ask at once
            if file is not None:
                _check_hash(Path(file), WEIGHTS[tagged])
                _save(_open(Path(file), tagged), tagged, path)
            elif not path.is_file():
                _fetch_and_convert(tagged, path)
    except OSError as error:
        raise DownloadError(
            f"{tagged} cannot be kept in {folder}: {error}. HYBRIDVIT_CACHE names another folder."
        ) from error
    return path


def fetch_to(name: str, out: Path | None = None, *, file: Path | None = None) -> tuple[str, str, Path]:
    """As download; with `out` a copy goes there. Gives the weights' full name, their licence, and the checkpoint.

    Raises: as download; DownloadError when `out` cannot be written.
    """
    tagged = find_weights(name)
    path = download(tagged, file=file)
    if out is not None:
        try:
            with replacing(out) as temporary:
                shutil.copyfile(path, temporary)
        except OSError as error:
            raise DownloadError(f"{out} cannot be written: {error}") from error
    return tagged, WEIGHTS[tagged].licence, out or path


def _by_hand(tagged: str) -> str:
    return f"Once you have the file:\n  hybridvit download {tagged} --from FILE"


def _fetch_and_convert(tagged: str, path: Path) -> None:
    """What was fetched whole stays until it is a checkpoint, unless its hash, or its bytes, show that it is damaged."""
    weights = WEIGHTS[tagged]
    try:
        file = fetch.from_hub(weights.hub_id, HUB_FILE) if weights.hub_id else fetch.from_url(weights.url, path.parent)
    except DownloadError as error:
        raise DownloadError(f"{error} {_by_hand(tagged)}") from error.__cause__
    proven = False
    try:
        proven = _check_hash(file, weights)
        model = _open(file, tagged)
    except DamagedError as error:
        if proven:
            raise
        for damaged in (file.resolve(), file):  # in the hub's cache, a link to it
            damaged.unlink(missing_ok=True)
        raise DownloadError(
            f"{error}\nThis came from {_place(weights)} and was deleted. Try once more; if it stays so, its publisher changed it."
        ) from error
    except (CheckpointError, DownloadError) as error:
        raise DownloadError(f"{error}\nWhat came from {_place(weights)} is kept: {file}.") from error
    _save(model, tagged, path)
    if not weights.hub_id:
        file.unlink()


def _place(weights: Weights) -> str:
    return f"{weights.hub_id}/{HUB_FILE} on the Hugging Face hub" if weights.hub_id else weights.url or weights.by_hand


def _open(file: Path, tagged: str) -> Any:
    """The model in a published file. Raises: CheckpointError, DownloadError when it is not the one that was meant."""
    weights = WEIGHTS[tagged]
    model, report = convert.open_foreign(file, arithmetic=weights.arithmetic or None)
    size = report.image_size
    if report.architecture != tagged.partition(".")[0] or (size and tuple(size) != weights.preprocess.image_size):
        at = f" for {size[0]} x {size[1]} pixels" if size else ""
        raise DownloadError(f"{file} is not {tagged}: it holds {report.architecture}{at}, whatever its name says.")
    return model


def _save(model: Any, tagged: str, path: Path) -> None:
    weights = WEIGHTS[tagged]
    origin = model.origin | {"place": _place(weights), "licence": weights.licence}
    metrics = {"published_top1": weights.top1} if weights.top1 else None
    checkpoint.save(model, path, preprocess=weights.preprocess, origin=origin, metrics=metrics)


def _check_hash(file: Path, weights: Weights) -> bool:
    """Whether a hash is known, and right. The hub's cache names large files by the sha256 that the hub gave for them.

    Raises: DamagedError when it is another.
    """
    stored_as = file.resolve().name
    known = ("sha256", stored_as) if re.fullmatch("[0-9a-f]{64}", stored_as) else ("md5", weights.md5)
    if not known[1]:
        return False
    found = digest(file, known[0])
    if found != known[1]:
        raise DamagedError(f"{file} is damaged or another file: its {known[0]} is {found}, expected was {known[1]}.")
    return True
