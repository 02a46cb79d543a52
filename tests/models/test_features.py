"""Models as backbones: maps, and no parameter that they do not depend on."""

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch

import hybridvit
from hybridvit.errors import ConfigError
from support import pictures, randomise

NAMES = ("cvt_nano", "cmt_nano", "cmt_ti_flyegle", "cmt_ti_kecam")
TWO_PROCESSES = """
import sys, timm, torch, hybridvit
from torch.nn.parallel import DistributedDataParallel
torch.set_num_threads(1)
rank = int(sys.argv[1])
torch.distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
for name, indices in (("cvt_nano", (0, 1, 2)), ("cmt_nano", (0, 1, 2)), ("cvt_nano", (0, 1)), ("cmt_nano", (1,))):
    model = DistributedDataParallel(timm.create_model(name, features_only=True, out_indices=indices))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(3):
        optimizer.zero_grad()
        sum(map_BCHW.square().mean() for map_BCHW in model(torch.randn(2, 3, 32, 32))).backward()
        optimizer.step()
torch.distributed.destroy_process_group()
print("three steps each")
"""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("indices", [None, (0,), (0, 1)])
def test_every_parameter_of_a_backbone_has_a_gradient(name: str, indices: tuple[int, ...] | None) -> None:
    chosen = {} if indices is None else {"out_indices": indices}
    model = timm.create_model(name, features_only=True, **chosen)
    sum(map_BCHW.square().mean() for map_BCHW in model(torch.randn(2, 3, 64, 64))).backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", ["cvt_nano", "cmt_nano", "cmt_ti_flyegle"])
@pytest.mark.parametrize("num_classes", [0, 5])
def test_without_pooling_every_parameter_that_asks_for_a_gradient_gets_one(name: str, num_classes: int) -> None:
    model = hybridvit.create_model(name, num_classes=num_classes, global_pool="")
    pooled = hybridvit.create_model(name, num_classes=num_classes)
    assert model.state_dict().keys() == pooled.state_dict().keys()
    model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    assert [key for key, each in model.named_parameters() if each.requires_grad and each.grad is None] == []


def test_a_head_learns_again_when_pooling_comes_back_and_a_frozen_one_stays_frozen() -> None:
    model = hybridvit.create_model("cmt_nano", num_classes=5, global_pool="")
    model.reset_classifier(3)
    assert not any(each.requires_grad for each in model.head.parameters())
    model.reset_classifier(3, "avg")
    assert all(each.requires_grad for each in model.parameters())
    model.requires_grad_(False).reset_classifier(4)
    assert [key for key, each in model.named_parameters() if each.requires_grad] == ["head.fc.weight", "head.fc.bias"]


def test_backbones_train_in_two_processes(tmp_path: Path) -> None:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROCESSES, str(rank), str(tmp_path / "meeting")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in ranks:
        printed, errors = process.communicate(timeout=120)
        assert printed.split("\n")[-2:] == ["three steps each", ""], errors


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("indices", [[0], [0, 1], [-1]])
def test_a_norm_is_asked_of_the_last_stage_only_also_after_pruning(name: str, indices: list[int]) -> None:
    model = randomise(hybridvit.create_model(name, num_classes=5)).eval()
    x = pictures(1, 64, 64)
    expected = model.forward_intermediates(x, indices=indices, norm=True, intermediates_only=True)
    kept = model.prune_intermediate_layers(indices, prune_norm=False)
    found = model.forward_intermediates(x, indices=kept, norm=True, intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_pruned_model_gives_its_last_features_and_takes_no_new_classifier(name: str) -> None:
    model = randomise(hybridvit.create_model(name, num_classes=5)).eval()
    model.prune_intermediate_layers([1], prune_norm=True)
    x = pictures(1, 64, 64)
    assert torch.equal(model(x), model.forward_features(x))
    assert list(model.get_classifier().parameters()) == []
    with pytest.raises(ConfigError, match="pruned to its features"):
        model.reset_classifier(7)


@pytest.mark.parametrize(("name", "pools"), [("cvt_nano", "'token', 'avg', ''"), ("cmt_nano", "'avg', ''")])
@pytest.mark.parametrize("pool", ["max", "avgmax", "map", "fast", "AVG"])
def test_a_pooling_that_a_family_does_not_have_is_refused_wherever_it_is_asked_for(
    name: str, pools: str, pool: str
) -> None:
    model = hybridvit.create_model(name, num_classes=5)
    for ask in (
        lambda: hybridvit.create_model(name, global_pool=pool),
        lambda: timm.create_model(name, global_pool=pool),
        lambda: model.reset_classifier(3, global_pool=pool),
        lambda: setattr(model, "global_pool", pool),
    ):
        with pytest.raises(ConfigError, match=f"global_pool='{pool}'. There are: {pools}"):
            ask()
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 5)
