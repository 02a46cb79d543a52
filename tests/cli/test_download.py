"""hybridvit download, as a program of its own against a hub of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import hybridvit
from publisher import HUB_PATH, Publisher, hub_file, publish


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    with publish({HUB_PATH: hub_file(tmp_path_factory.mktemp("hub")).read_bytes()}) as running:
        yield running


def run(*words: object, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hybridvit", "download", *map(str, words)]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=120)


def test_a_model_is_fetched_shown_and_kept_offline(server: Publisher, tmp_path: Path) -> None:
    env = {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(tmp_path / "hub"),
        "HYBRIDVIT_CACHE": str(tmp_path / "cache"),
        "NO_PROXY": "127.0.0.1",
        "TQDM_POSITION": "-1",  # progress although this is no terminal
    }
    first = run("cvt_13", env=env)
    kept = tmp_path / "cache" / "cvt_13.ms_in1k.safetensors"
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"cvt_13.ms_in1k (licence: apache-2.0)\n{kept}\n"
    assert "100%" in first.stderr  # the progress of the download

    out = tmp_path / "new" / "cvt.safetensors"
    again = run("cvt_13.ms_in1k", "--out", out, env=env | {"HF_HUB_OFFLINE": "1"})
    assert again.returncode == 0, again.stderr
    assert out.read_bytes() == kept.read_bytes()
    assert hybridvit.load(out).architecture == "cvt_13"

    other = run("cvt_21", env=env | {"HF_HUB_OFFLINE": "1"})
    assert other.returncode == 2
    assert "Traceback" not in other.stderr
    assert other.stderr.startswith("DownloadError: microsoft/cvt-21 of")
    assert "HF_HUB_OFFLINE is set" in other.stderr
