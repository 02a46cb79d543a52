"""weights/hub.py: a model goes to the hub and comes back the same, by this library and by timm; a hub of our own answers."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from huggingface_hub import constants

import hybridvit
from hub import Hub, serve_hub
from hybridvit.cli.main import main
from hybridvit.errors import CheckpointError, ConfigError, DownloadError
from hybridvit.models import catalog
from hybridvit.models.heads import assembly
from support import pictures, randomise

REPOSITORY = "owner/birds"
# huggingface_hub's own call, of its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serve_hub() as running:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("HF_TOKEN", running.token)
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        yield running


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "birds.safetensors"
    model = randomise(catalog.create("cmt_nano", num_classes=3, img_size=(48, 64))).float()
    hybridvit.save(
        model,
        path,
        label_names=["bird", "Katze", "犬"],
        recipe={"seed": 1, "optimizer": {"lr": 1e-3}},
        origin={"source": "huawei", "licence": "mit", "place": "owner/base/pytorch_model.bin on the Hugging Face hub"},
        metrics={"top1": 91.5, "epoch": 3},
    )
    return path


def data_of(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def test_a_checkpoint_goes_to_the_hub_and_comes_back_the_same(hub: Hub, saved: Path) -> None:
    hybridvit.push_to_hub(saved, REPOSITORY, licence="mit")
    assert set(hub.repositories[REPOSITORY]) == {"README.md", "config.json", "model.safetensors"}
    original: Any = hybridvit.load(saved)
    for spelling in (
        "hf://owner/birds",
        "hf-hub:owner/birds",
        "hf_hub:owner/birds",
        Path("hf://owner/birds"),
        "hf://owner/birds@main",
    ):
        model: Any = hybridvit.load(spelling)
        assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in original.state_dict().items())
    for carried in ("label_names", "preprocess", "recipe", "origin", "metrics", "img_size"):
        assert getattr(model, carried) == getattr(original, carried), carried


def test_what_is_pushed_is_strict_json_also_after_a_run_that_diverged(hub: Hub, saved: Path) -> None:
    model: Any = hybridvit.load(saved)
    model.metrics = {"top1": 0.1, "loss": math.nan}
    hybridvit.push_to_hub(model, REPOSITORY, licence="mit")
    config = hub.repositories[REPOSITORY]["config.json"]
    found = json.loads(config, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert "loss" in str(found)


def test_a_model_in_memory_goes_there_too(hub: Hub, saved: Path) -> None:
    model: Any = hybridvit.load(saved)
    model.reset_classifier(5)
    hybridvit.push_to_hub(model, REPOSITORY, licence="mit", private=True)
    assert hub.private == {REPOSITORY}
    again: Any = hybridvit.load(f"hf://{REPOSITORY}")
    assert (again.num_classes, again.label_names) == (5, None)


@pytest.mark.parametrize("name", ["cmt_nano", "cvt_nano"])
def test_timm_opens_what_was_pushed(hub: Hub, name: str, tmp_path: Path) -> None:
    model = randomise(catalog.create(name, num_classes=3, in_chans=1, img_size=(48, 64))).float().eval()
    hybridvit.push_to_hub(model, REPOSITORY, licence="mit")
    again = timm.create_model(f"hf-hub:{REPOSITORY}", pretrained=True, cache_dir=str(tmp_path / "cache")).eval()
    x = pictures(1, 48, 64)[:, :1].float()
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
    assert timm.data.resolve_model_data_config(again)["crop_pct"] == model.pretrained_cfg["crop_pct"]


def test_the_code_on_the_card_runs(hub: Hub, saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    card = hybridvit.push_to_hub(saved, REPOSITORY, licence="mit")
    blocks = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, {})


def test_the_card_says_what_the_checkpoint_knows(hub: Hub, saved: Path) -> None:
    card = hybridvit.push_to_hub(saved, REPOSITORY, licence="cc-by-4.0", dataset="My birds", dry_run=True)
    data = data_of(card)
    assert (data["license"], data["library_name"], data["pipeline_tag"]) == (
        "cc-by-4.0",
        "timm",
        "image-classification",
    )
    assert "transformers" not in data["tags"]
    assert data["base_model"] == "owner/base"
    (result,) = data["model-index"][0]["results"]
    assert result["dataset"]["name"] == "My birds"
    (metric,) = result["metrics"]
    assert (metric["type"], metric["value"]) == ("accuracy", 91.5)
    for said in ("cmt_nano", "48 x 64", "bird, Katze, 犬", "lr: 0.001", "hf://owner/birds", "| metric: top1 | 91.5 |"):
        assert said in card


def test_a_dry_run_asks_nothing_of_the_network(hub: Hub, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(saved), REPOSITORY, "--licence", "mit", "--dry-run"]) == 0
    assert data_of(capsys.readouterr().out)["license"] == "mit"
    assert hub.asked == []


def test_the_command_pushes_and_says_how_to_open_it(hub: Hub, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(saved), REPOSITORY, "--licence", "mit", "--private"]) == 0
    assert f"hybridvit.load('hf://{REPOSITORY}')" in capsys.readouterr().out
    assert main(["inspect", f"hf://{REPOSITORY}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["architecture"] == "cmt_nano"


def test_a_card_that_its_owner_has_edited_stays_when_the_model_is_pushed_again(hub: Hub, saved: Path) -> None:
    hybridvit.push_to_hub(saved, REPOSITORY, licence="mit")
    hub.repositories[REPOSITORY]["README.md"] += b"Written by hand."
    model: Any = hybridvit.load(saved)
    with torch.no_grad():
        model.head.fc.bias.fill_(7)
    hybridvit.push_to_hub(model, REPOSITORY, licence="mit")
    assert hub.repositories[REPOSITORY]["README.md"].endswith(b"Written by hand.")
    assert b"7.0" not in hub.repositories[REPOSITORY]["config.json"]
    assert hybridvit.load(f"hf://{REPOSITORY}").get_classifier().bias.tolist() == [7, 7, 7]


def test_no_licence_is_guessed(hub: Hub, saved: Path) -> None:
    with pytest.raises(ConfigError, match=r"Under which licence\?.* began from are under mit"):
        hybridvit.push_to_hub(saved, REPOSITORY)
    assert hub.asked == []


@pytest.mark.parametrize("repository", ["birds", "/birds", "owner/", "a/b/c"])
def test_a_name_that_is_none_is_refused(hub: Hub, saved: Path, repository: str) -> None:
    with pytest.raises(ConfigError, match="OWNER/NAME"):
        hybridvit.push_to_hub(saved, repository, licence="mit")


def test_detectors_go_there_and_come_back_without_timm(hub: Hub) -> None:
    model = assembly.create("retinanet_cvt_nano", num_classes=2)
    card = hybridvit.push_to_hub(model, REPOSITORY, licence="mit")
    assert data_of(card)["pipeline_tag"] == "object-detection"
    assert "timm.create_model" not in card
    assert hybridvit.load(f"hf://{REPOSITORY}").architecture == "retinanet_cvt_nano"


# ---- refusals ---------------------------------------------------------------------------------------------------------------


def test_private_gated_and_missing_repositories_say_what_to_do(
    hub: Hub, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hybridvit.push_to_hub(saved, REPOSITORY, licence="mit", private=True)
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody")
    with pytest.raises(DownloadError, match=r"not there, or private \(HTTP 401\): `hf auth login`"):
        hybridvit.load(f"hf://{REPOSITORY}")
    hub.private.clear()
    hub.gated.add(REPOSITORY)
    with pytest.raises(DownloadError, match="its owner gives access on request"):
        hybridvit.load(f"hf://{REPOSITORY}")
    with pytest.raises(DownloadError, match="not there, or private"):
        hybridvit.load("hf://owner/nothing")
    with pytest.raises(DownloadError, match=r"owner/birds of http.* cannot be pushed: .*`hf auth login`"):
        hybridvit.push_to_hub(saved, REPOSITORY, licence="mit")
    with pytest.raises(DownloadError, match="names no repository"):
        hybridvit.load("hf://birds")


def test_a_repository_of_another_kind_says_what_it_lacks(hub: Hub) -> None:
    hub.repositories["owner/other"] = {"config.json": b'{"model_type": "cvt"}', "model.safetensors": b"x"}
    with pytest.raises(CheckpointError, match=r"model\.safetensors is"):
        hybridvit.load("hf://owner/other")


def test_without_a_hub_the_error_names_it(saved: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:9 cannot be pushed: no connection"):
        hybridvit.push_to_hub(saved, REPOSITORY, licence="mit")
