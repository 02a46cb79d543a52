"""weights/download.py: published files arrive whole and become checkpoints, or one error says why not."""

import hashlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

import foreign
import golden
from hybridvit.errors import CheckpointError, ConfigError, DownloadError
from hybridvit.models import catalog
from hybridvit.weights import checkpoint, convert, download
from hybridvit.weights.containers import DamagedError
from hybridvit.weights.load import load, read_checkpoint
from hybridvit.weights.published import WEIGHTS, find_weights
from publisher import HUB_PATH, Publisher, hub_file, publish
from support import relative_error

TI, TI_PATH = "cmt_ti.huawei_in1k", "/cmt_tiny.pth"
BEFORE_BREAK = 15_000_000  # bytes; the client writes in steps of 10 MB


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("published")
    return {
        HUB_PATH: hub_file(folder).read_bytes(),
        TI_PATH: foreign.golden_file("huawei", folder).read_bytes(),
    }


@pytest.fixture
def server(published: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Publisher]:
    """The hub and the authors' server, with an empty cache, and with no waiting between attempts."""
    with publish(dict(published)) as running:
        monkeypatch.setenv("HYBRIDVIT_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
        point(monkeypatch, TI, url=running.url + TI_PATH)
        yield running


def point(monkeypatch: pytest.MonkeyPatch, tagged: str, **changes: str) -> None:
    monkeypatch.setitem(WEIGHTS, tagged, replace(WEIGHTS[tagged], **changes))


def left_over() -> list[str]:
    """Files in the cache that are no checkpoints."""
    return [p.name for p in download.cache_folder().iterdir() if p.suffix not in (".safetensors", ".lock")]


def test_a_hub_repository_becomes_a_checkpoint_with_the_authors_arithmetic(server: Publisher) -> None:
    path = download.download("cvt_13")
    found = read_checkpoint(path)
    assert path.name == "cvt_13.ms_in1k.safetensors"
    assert found.architecture == "cvt_13"  # not cvt_13_gelu, which transformers would compute
    assert found.preprocess == WEIGHTS["cvt_13.ms_in1k"].preprocess
    assert found.origin is not None
    assert found.origin["place"] == "microsoft/cvt-13/pytorch_model.bin on the Hugging Face hub"
    assert found.origin["sha256"] == hashlib.sha256(server.files[HUB_PATH]).hexdigest()
    assert found.origin["licence"] == "apache-2.0"


def test_the_weights_compute_what_their_authors_do(server: Publisher) -> None:
    _, _, answers = foreign.load("huawei")
    model = load(download.download("cmt_ti")).double()
    with torch.no_grad():
        logits = model(torch.from_numpy(golden.images(160, 160)))
    assert relative_error(logits, torch.from_numpy(answers["eval_logits"])) < 1e-9


@pytest.mark.parametrize(
    ("tagged", "source"),
    [("cvt_13.paddle_in1k_384", "paddleclas"), ("cmt_ti_kecam_port.huawei_in1k", "kecam")],
)
def test_paddle_and_keras_files_come_from_their_servers_too(
    server: Publisher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tagged: str, source: str
) -> None:
    server.files["/weights"] = contents = foreign.golden_file(source, tmp_path).read_bytes()
    point(monkeypatch, tagged, url=f"{server.url}/weights", md5=hashlib.md5(contents).hexdigest())
    found = read_checkpoint(download.download(tagged))
    assert found.architecture == tagged.partition(".")[0]
    assert found.preprocess == WEIGHTS[tagged].preprocess
    assert left_over() == []


@pytest.mark.parametrize("name", ["cvt_13", "cmt_ti"])
def test_what_was_fetched_once_is_not_fetched_again(server: Publisher, name: str) -> None:
    path = download.download(name)
    server.files.clear()
    assert download.download(name) == path
    assert len(server.ranges) == 1


def test_several_processes_that_ask_at_once_fetch_once(server: Publisher) -> None:
    with ThreadPoolExecutor(3) as ranks:
        paths = set(ranks.map(download.download, ["cmt_ti"] * 3))
    assert len(paths) == len(server.ranges) == 1


def test_another_cache_folder_is_used_where_one_is_named(server: Publisher, tmp_path: Path) -> None:
    assert download.download("cmt_ti", cache_dir=tmp_path / "mine") == tmp_path / "mine" / f"{TI}.safetensors"


@pytest.mark.parametrize("name", ["cvt_13", "cmt_ti"])
def test_a_broken_connection_is_taken_up_where_it_broke(server: Publisher, name: str) -> None:
    server.breaks = [BEFORE_BREAK, BEFORE_BREAK]
    load(download.download(name))
    assert server.ranges[0] == ""
    assert server.ranges[1:] == ["bytes=10485760-", "bytes=20971520-"]


def test_a_later_call_goes_on_where_an_earlier_one_stopped(server: Publisher) -> None:
    server.breaks, server.status_after_break = [BEFORE_BREAK], 500
    with pytest.raises(DownloadError, match="the server answers with HTTP 500; try again later"):
        download.download("cmt_ti")
    server.status = 200
    load(download.download("cmt_ti"))
    assert server.ranges[-1] == "bytes=10485760-"
    assert left_over() == []


def test_a_partial_file_that_fits_no_more_is_begun_anew(server: Publisher) -> None:
    server.breaks, server.status_after_break = [BEFORE_BREAK], 500
    with pytest.raises(DownloadError):
        download.download("cmt_ti")
    server.status = 200
    server.files[TI_PATH] = b"<html>We have moved.</html>"
    with pytest.raises(DownloadError, match="is a web page"):
        download.download("cmt_ti")
    assert server.ranges[-2:] == ["bytes=10485760-", ""]


@pytest.mark.parametrize(("name", "path"), [("cvt_13", HUB_PATH), ("cmt_ti", TI_PATH)])
def test_a_missing_file_is_named_and_another_way_shown(server: Publisher, name: str, path: str) -> None:
    del server.files[path]
    with pytest.raises(
        DownloadError, match=r"cannot be fetched: it is not there, or not public \(HTTP 404\)"
    ) as caught:
        download.download(name)
    assert f"hybridvit download {find_weights(name)} --from FILE" in str(caught.value)


@pytest.mark.parametrize("name", ["cvt_13", "cmt_ti"])
def test_without_a_network_the_error_says_so(server: Publisher, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    nowhere = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", nowhere + "/{repo_id}/{revision}/{filename}")
    point(monkeypatch, TI, url=nowhere + TI_PATH)
    with pytest.raises(DownloadError, match=r"no connection .*; check the network"):
        download.download(name)


@pytest.mark.parametrize("name", ["cvt_13", "cmt_ti"])
def test_offline_nothing_is_asked_of_the_network(server: Publisher, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"):
        download.download(name)
    assert server.ranges == []


def test_offline_the_hubs_own_cache_is_enough(server: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    download.download("cvt_13").unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    load(download.download("cvt_13"))


def test_a_file_with_another_hash_is_refused_and_deleted(server: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    point(monkeypatch, TI, md5="0123abcd")
    with pytest.raises(DownloadError, match=r"its md5 is .*, expected was 0123abcd") as caught:
        download.download("cmt_ti")
    assert "was deleted" in str(caught.value)
    assert left_over() == []
    point(monkeypatch, TI, md5=hashlib.md5(server.files[TI_PATH]).hexdigest())
    load(download.download("cmt_ti"))


def test_a_hub_file_is_held_against_the_hubs_own_hash(server: Publisher) -> None:
    server.sha256 = "f" * 64
    with pytest.raises(DownloadError, match=r"its sha256 is .*, expected was ffff"):
        download.download("cvt_13")
    server.sha256 = ""
    load(download.download("cvt_13"))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"<!DOCTYPE html><html>Sign in</html>", "is a web page"),
        (b"", "is empty"),
        (None, "truncated or damaged"),
    ],
)
def test_what_is_no_weights_file_is_refused_and_deleted(
    server: Publisher, contents: bytes | None, message: str
) -> None:
    whole = server.files[TI_PATH]
    server.files[TI_PATH] = whole[: len(whole) // 2] if contents is None else contents
    with pytest.raises(DownloadError) as caught:
        download.download("cmt_ti")
    assert f"{TI_PATH} and was deleted" in str(caught.value)
    assert message in str(caught.value)
    assert left_over() == []


def test_a_file_of_another_size_is_refused_whatever_it_is_called(
    server: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    point(monkeypatch, "cmt_xs.huawei_in1k", url=server.url + TI_PATH)
    with pytest.raises(DownloadError, match=r"is not cmt_xs.huawei_in1k: it holds cmt_ti for 160 x 160 pixels"):
        download.download("cmt_xs")


def test_weights_that_only_a_person_can_fetch_say_from_where(server: Publisher) -> None:
    with pytest.raises(DownloadError, match="only a person can fetch it: the Google Drive folder") as caught:
        download.download("cmt_ti_flyegle")
    assert "hybridvit download cmt_ti_flyegle.in1k --from FILE" in str(caught.value)


def test_a_file_fetched_by_hand_is_checked_and_found_under_its_name(server: Publisher, tmp_path: Path) -> None:
    server.status = 500
    file = tmp_path / "cmt_tiny.pth"
    with pytest.raises(DownloadError, match="is not a file"):
        download.download("cmt_ti", file=file)
    file.write_bytes(server.files[TI_PATH])
    with pytest.raises(DownloadError, match=r"is not cvt_13.ms_in1k"):
        download.download("cvt_13", file=file)
    path = download.download("cmt_ti", file=file)
    assert download.download("cmt_ti") == path
    assert file.exists()


@pytest.mark.parametrize("name", [n for n in catalog.ARCHITECTURES if not any(w.startswith(f"{n}.") for w in WEIGHTS)])
def test_an_architecture_without_published_weights_gives_an_error_not_random_ones(name: str) -> None:
    with pytest.raises(DownloadError, match=f"No weights of {name} were published"):
        find_weights(name)


def test_unknown_names_and_tags_are_corrected() -> None:
    with pytest.raises(ConfigError, match="Did you mean"):
        find_weights("cvt_14")
    with pytest.raises(ConfigError, match=r"No weights are called 'cvt_13.in1k'. Of cvt_13, published: cvt_13.ms_in1k"):
        find_weights("cvt_13.in1k")


def test_a_full_disk_does_not_cost_the_file_that_was_fetched(
    server: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise CheckpointError("cannot be written: no space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(checkpoint, "save", full)
        with pytest.raises(CheckpointError, match="no space left"):
            download.download("cmt_ti")
    assert ".cmt_tiny.pth" in left_over()
    assert len(server.ranges) == 1
    load(download.download("cmt_ti"))
    assert len(server.ranges) == 1


def test_a_cache_that_cannot_be_written_is_named(server: Publisher, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="HYBRIDVIT_CACHE names another folder"):
        download.download("cmt_ti", cache_dir=tmp_path / "file" / "cache")


# ---- nothing whole is deleted -----------------------------------------------------------------------------------------------

KECAM = "cmt_ti_kecam_port.huawei_in1k"


@pytest.fixture
def keras_file(server: Publisher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    server.files["/weights.h5"] = contents = foreign.golden_file("kecam", tmp_path).read_bytes()
    point(monkeypatch, KECAM, url=f"{server.url}/weights.h5", md5=hashlib.md5(contents).hexdigest())
    return KECAM


def test_without_h5py_the_file_that_was_fetched_is_kept_and_opens_once_it_is_there(
    server: Publisher, keras_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "h5py", None)
        with pytest.raises(DownloadError, match=r"need h5py: pip install(.|\n)*is kept") as caught:
            download.download(keras_file)
    assert "deleted" not in str(caught.value)
    assert "publisher" not in str(caught.value)
    assert left_over() == [".weights.h5"]
    load(download.download(keras_file))
    assert len(server.ranges) == 1


@pytest.mark.parametrize(
    "error", [CheckpointError("of no source"), DamagedError("is damaged"), MemoryError(), KeyboardInterrupt()]
)
def test_whatever_happens_a_file_with_the_right_hash_stays(
    server: Publisher, keras_file: str, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(convert, "open_foreign", fails)
        with pytest.raises((CheckpointError, DownloadError, MemoryError, KeyboardInterrupt)):
            download.download(keras_file)
    assert left_over() == [".weights.h5"]
    load(download.download(keras_file))
    assert len(server.ranges) == 1


def test_a_hub_file_with_the_hubs_hash_stays_in_its_cache(server: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    server.sha256 = hashlib.sha256(server.files[HUB_PATH]).hexdigest()

    def fails(*args: object, **kwargs: object) -> None:
        raise DamagedError("is damaged")

    with monkeypatch.context() as patch:
        patch.setattr(convert, "open_foreign", fails)
        with pytest.raises(CheckpointError):
            download.download("cvt_13")
    load(download.download("cvt_13"))
    assert len(server.ranges) == 1


def test_another_model_than_was_meant_is_kept_where_no_hash_is_known(
    server: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    point(monkeypatch, "cmt_xs.huawei_in1k", url=server.url + TI_PATH)
    with pytest.raises(DownloadError, match=r"it holds cmt_ti(.|\n)*is kept"):
        download.download("cmt_xs")
    assert left_over() == [".cmt_tiny.pth"]


def test_a_whole_file_that_only_lacks_its_name_is_not_fetched_again(server: Publisher) -> None:
    folder = download.cache_folder()
    folder.mkdir(parents=True)
    (folder / ".cmt_tiny.pth.incomplete").write_bytes(server.files[TI_PATH])
    load(download.download("cmt_ti"))
    assert server.ranges == [f"bytes={len(server.files[TI_PATH])}-"]
