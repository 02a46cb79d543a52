"""Published weights: fetch the file that their publisher offers, check it, convert it, keep the result.

Repositories of the Hugging Face hub come through huggingface_hub, and stay in its cache as well; other files come through its
HTTP client, which takes up a broken download where it stopped, and are deleted once they are converted.
"""

import difflib
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import http_get

from hybridvit.errors import CheckpointError, DownloadError
from hybridvit.files import replacing
from hybridvit.models.catalog import ARCHITECTURES, WEIGHTS, Weights, architecture, pretrained_cfg_of
from hybridvit.weights import checkpoint, convert

HUB_FILE = "pytorch_model.bin"


def cache_folder() -> Path:
    """Where converted weights are kept: $HYBRIDVIT_CACHE, or ~/.cache/hybridvit."""
    return Path(os.environ.get("HYBRIDVIT_CACHE") or "~/.cache/hybridvit").expanduser()


def find_weights(name: str) -> str:
    """Architecture and tag of the weights that `name` means: an architecture alone means its first tag.

    Raises: ConfigError for an unknown name or tag, DownloadError for an architecture of which nothing was published.
    """
    architecture(name)
    if "." in name:
        pretrained_cfg_of(name)
        return name
    tagged = next((known for known in WEIGHTS if known.startswith(f"{name}.")), None)
    if tagged is None:
        published = dict.fromkeys(known.partition(".")[0] for known in WEIGHTS)
        near = difflib.get_close_matches(name, published, n=3, cutoff=0.3)
        note = f" ({ARCHITECTURES[name].note})" if ARCHITECTURES[name].note else ""
        raise DownloadError(
            f"No weights of {name} were published{note}. Leave pretrained out to begin with random weights, or take a name that "
            f"has some, such as {', '.join(near)}."
        )
    return tagged


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
    weights = WEIGHTS[tagged]
    try:
        file = _from_hub(weights.hub_id) if weights.hub_id else _from_url(weights.url, path.parent)
    except DownloadError as error:
        raise DownloadError(f"{error} {_by_hand(tagged)}") from error.__cause__
    try:
        model = _open(file, tagged)
    except (CheckpointError, DownloadError) as error:
        _delete(file)
        raise DownloadError(
            f"{error}\nThis came from {_place(weights)} and was deleted. Try once more; if it stays so, its publisher changed it."
        ) from error
    _save(model, tagged, path)
    if not weights.hub_id:
        _delete(file)


def _place(weights: Weights) -> str:
    return f"{weights.hub_id}/{HUB_FILE} on the Hugging Face hub" if weights.hub_id else weights.url or weights.by_hand


def _delete(file: Path) -> None:
    """Delete a file, and what it points to in the hub's cache."""
    file.resolve().unlink(missing_ok=True)
    file.unlink(missing_ok=True)


# ---- fetching ---------------------------------------------------------------------------------------------------------------


def _from_hub(repository: str) -> Path:
    try:
        return Path(hf_hub_download(repository, HUB_FILE))
    except Exception as error:  # whatever its HTTP library raises, which so far has been three different ones
        raise DownloadError(f"{repository} of {constants.ENDPOINT} cannot be fetched: {_reason(error)}.") from error


def _from_url(url: str, folder: Path) -> Path:
    """Fetch into `folder`, continuing what an earlier attempt left there."""
    if constants.HF_HUB_OFFLINE:
        raise DownloadError(f"{url} cannot be fetched: HF_HUB_OFFLINE is set.")
    file = folder / f".{url.rpartition('/')[2]}"
    if file.exists():  # complete, but could not be kept as a checkpoint
        return file
    partial = file.with_name(f"{file.name}.incomplete")
    had = partial.stat().st_size if partial.exists() else 0
    try:
        with partial.open("ab") as stream:
            http_get(url, stream, resume_size=had)
    except Exception as error:  # as above
        if had and _status(error) == 416:  # the server has nothing behind our last byte: this is no part of its file
            partial.unlink()
            return _from_url(url, folder)
        raise DownloadError(f"{url} cannot be fetched: {_reason(error)}.") from error
    partial.replace(file)
    return file


def _status(error: BaseException) -> int | None:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _reason(error: Exception) -> str:
    """Why a file did not come, from an error that may be wrapped several times."""
    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    names = " ".join(type(link).__name__ for link in chain)
    status = next((status for link in chain if (status := _status(link))), None)
    if "OfflineMode" in names:
        return "HF_HUB_OFFLINE is set, and it is not in the hub's cache"
    if status in (401, 403, 404, 410):
        return f"it is not there, or not public (HTTP {status})"
    if status:
        return f"the server answers with HTTP {status}; try again later, and it goes on where it stopped"
    if "Consistency check failed" in str(error) or "RemoteProtocolError" in names:
        return "the connection broke again and again; try again later, and it goes on where it stopped"
    if "Connect" in names or "Timeout" in names:
        return f"no connection ({chain[-1]}); check the network, and HTTPS_PROXY where one is needed"
    return f"{type(chain[-1]).__name__}: {chain[-1]}"


# ---- checking ---------------------------------------------------------------------------------------------------------------


def _open(file: Path, tagged: str) -> Any:
    """The model in a published file. Raises: CheckpointError, DownloadError when it is not the one that was meant."""
    weights = WEIGHTS[tagged]
    _check_hash(file, weights)
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
    checkpoint.save(path, model, preprocess=weights.preprocess, origin=origin, metrics=metrics)


def _check_hash(file: Path, weights: Weights) -> None:
    """Compare with what the publisher said. The hub's cache names large files by the sha256 that the hub gave for them."""
    sha256 = weights.sha256_prefix
    if re.fullmatch("[0-9a-f]{64}", file.resolve().name):
        sha256 = file.resolve().name
    for algorithm, expected in (("md5", weights.md5), ("sha256", sha256)):
        if not expected:
            continue
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, algorithm).hexdigest()
        if not found.startswith(expected):
            raise DownloadError(
                f"{file} is damaged or another file: its {algorithm} is {found}, expected was {expected}."
            )
