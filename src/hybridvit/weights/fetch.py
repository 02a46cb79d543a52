"""Fetching files: everything that huggingface_hub is asked for lies here, with its private and changing parts.

Its HTTP client takes up a broken download where it stopped; what it fetches from the hub stays in the hub's own cache.
"""

import re
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import http_get

from hybridvit.errors import DownloadError


def from_hub(repository: str, name: str, *, revision: str | None = None) -> Path:
    """One file of a repository, in the hub's cache. Raises: DownloadError."""
    try:
        return Path(hf_hub_download(repository, name, revision=revision))
    except Exception as error:  # whatever its HTTP library raises, which so far has been three different ones
        raise DownloadError(f"{repository} of {constants.ENDPOINT} cannot be fetched: {reason(error)}.") from error


HUB = re.compile(r"hf:/+|hf-hub:|hf_hub:")  # pathlib makes one slash of two


def local(path: str | Path) -> Path:
    """The path itself; of hf://OWNER/NAME or hf://OWNER/NAME@REVISION, the folder in the hub's cache. Raises: DownloadError."""
    spelling = HUB.match(str(path))
    if spelling is None:
        return Path(path)
    repository, _, revision = str(path)[spelling.end() :].partition("@")
    if repository.count("/") != 1:
        raise DownloadError(f"{path} names no repository of the hub: hf://OWNER/NAME does.")
    for name in ("config.json", "model.safetensors"):
        file = from_hub(repository, name, revision=revision or None)
    return file.parent


def push(folder: Path, repository: str, *, private: bool) -> None:
    """Make `repository` hold the files of `folder`; a card that lies there stays. Raises: DownloadError."""
    api = HfApi(endpoint=constants.ENDPOINT, library_name="hybridvit")
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        kept = ["README.md"] if api.file_exists(repository, "README.md") else None
        message = "Model by hybridvit" if kept else "Model and card by hybridvit"
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message, ignore_patterns=kept)
    except Exception as error:  # as above
        raise DownloadError(f"{repository} of {constants.ENDPOINT} cannot be pushed: {reason(error)}.") from error


def from_url(url: str, folder: Path) -> Path:
    """Fetch into `folder`, continuing what an earlier attempt left there. Raises: DownloadError."""
    if constants.HF_HUB_OFFLINE:
        raise DownloadError(f"{url} cannot be fetched: HF_HUB_OFFLINE is set.")
    file = folder / f".{url.rpartition('/')[2]}"
    if file.exists():  # whole, but could not be opened or kept as a checkpoint
        return file
    partial = file.with_name(f"{file.name}.incomplete")
    had = partial.stat().st_size if partial.exists() else 0
    try:
        with partial.open("ab") as stream:
            http_get(url, stream, resume_size=had)
    except Exception as error:  # as above
        if not had or status_of(error) != 416:  # 416: the server has nothing behind our last byte
            raise DownloadError(f"{url} cannot be fetched: {reason(error)}.") from error
        if _size_said(error) != had:  # so this is no part of its file
            partial.unlink()
            return from_url(url, folder)
    partial.replace(file)
    return file


def status_of(error: BaseException) -> int | None:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _size_said(error: Exception) -> int | None:
    """The size of the file in an answer of 416: "Content-Range: bytes */SIZE"."""
    size = error.response.headers.get("Content-Range", "") if isinstance(error, HfHubHTTPError) else ""
    return int(digits) if (digits := size.rpartition("/")[2]).isdigit() else None


def reason(error: Exception) -> str:
    """Why a file did not come, from an error that may be wrapped several times."""
    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    names = " ".join(type(link).__name__ for link in chain)
    status = next((status for link in chain if (status := status_of(link))), None)
    if "OfflineMode" in names:
        return "HF_HUB_OFFLINE is set, and it is not in the hub's cache"
    if "GatedRepoError" in names:
        return "its owner gives access on request: ask on its page, and log in here with `hf auth login`"
    if status in (401, 403) and "RepositoryNotFound" not in names:
        return f"this machine's token is not allowed to (HTTP {status}): `hf auth login`, or HF_TOKEN, names another"
    if "RepositoryNotFound" in names and status == 401:
        return "it is not there, or private (HTTP 401): `hf auth login`, or HF_TOKEN, opens what is yours"
    if status in (401, 403, 404, 410):
        return f"it is not there, or not public (HTTP {status})"
    if status:
        return f"the server answers with HTTP {status}; try again later, and it goes on where it stopped"
    if "Consistency check failed" in str(error) or "RemoteProtocolError" in names:
        return "the connection broke again and again; try again later, and it goes on where it stopped"
    if "Connect" in names or "Timeout" in names:
        return f"no connection ({chain[-1]}); check the network, and HTTPS_PROXY where one is needed"
    return f"{type(chain[-1]).__name__}: {chain[-1]}"
