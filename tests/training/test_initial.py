"""A detector or segmenter begins from a classifier's weights."""

from pathlib import Path

import pytest
import torch

import hybridvit
from hybridvit.errors import CheckpointError
from hybridvit.training.initial import start_from

PICTURES = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "backbone", "options"),
    [
        ("semantic_fpn_cmt_nano", "cmt_nano", {}),
        ("semantic_fpn_cmt_nano", "cmt_nano", {"img_size": 64}),  # position tables are resized
        ("upernet_cvt_nano", "cvt_nano", {}),
        ("retinanet_cmt_nano", "cmt_nano", {}),
    ],
)
def test_a_classifiers_weights_become_the_backbone(
    name: str, backbone: str, options: dict[str, int], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    classifier = hybridvit.create_model(backbone, num_classes=7).eval()
    hybridvit.save(classifier, tmp_path / "classifier.safetensors")
    model = hybridvit.create_model(name, num_classes=3, **options).eval()
    others = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    said: list[str] = []
    start_from(model, tmp_path / "classifier.safetensors", say=said.append)
    assert said == [
        f"Starting from {tmp_path / 'classifier.safetensors'}: its backbone; what stands on it starts afresh."
    ]
    inner = next(module for module in model.modules() if type(module) is type(classifier))
    if options:
        classifier.set_input_size(64)
    with torch.no_grad():
        ours, theirs = (net.forward_intermediates(PICTURES, intermediates_only=True) for net in (inner, classifier))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    changed = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, others[key])}
    prefix = next(key for key, module in model.named_modules() if module is inner)
    assert changed
    assert all(key.startswith(prefix) for key in changed)


def test_a_segmenter_begins_from_a_segmenter_of_other_classes(tmp_path: Path) -> None:
    old = hybridvit.create_model("upernet_cmt_nano", num_classes=7)
    hybridvit.save(old, path := tmp_path / "segmenter.safetensors")
    model = hybridvit.create_model("upernet_cmt_nano", num_classes=3)
    said: list[str] = []
    start_from(model, path, say=said.append)
    assert said == [f"{path} knows 7 classes, this run 3: the classifier starts afresh."]
    assert torch.equal(model.head.join[0].weight, old.head.join[0].weight)
    assert model.auxiliary.classifier.out_channels == 3


def test_another_backbones_weights_are_refused(tmp_path: Path) -> None:
    hybridvit.save(hybridvit.create_model("cvt_nano"), path := tmp_path / "cvt.safetensors")
    with pytest.raises(CheckpointError, match="is a cvt_nano, the recipe trains a semantic_fpn_cmt_nano"):
        start_from(hybridvit.create_model("semantic_fpn_cmt_nano"), path, say=print)


@pytest.mark.parametrize("name", ["semantic_fpn_cmt_nano", "upernet_cvt_nano"])
def test_a_segmenters_file_gives_the_same_answers(name: str, tmp_path: Path) -> None:
    model = hybridvit.create_model(name, num_classes=4).eval()
    hybridvit.save(model, path := tmp_path / "segmenter.safetensors", label_names=["a", "b", "c", "d"])
    again = hybridvit.load(path)
    assert (again.task, again.label_names, again.num_classes) == ("segmentation", ["a", "b", "c", "d"], 4)
    with torch.no_grad():
        assert torch.equal(again(PICTURES), model(PICTURES))
