"""What a file is, told by its tensors' names and shapes. Shapes suffice, so most of these models are on the meta device."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from hybridvit.errors import CheckpointError
from hybridvit.models import catalog
from hybridvit.models.catalog import ARCHITECTURES
from hybridvit.models.cmt import CMT
from hybridvit.models.cvt import CvT
from hybridvit.weights import mapping
from hybridvit.weights.identify import detect, ending_of, identify, strip_prefixes, unwrap
from hybridvit.weights.tables import PUBLISHED, SOURCES

FLYEGLE_OPTIONS = [
    {"position": position, "absolute_position": ape, "qkv_bias": bias}
    for position in ("offsets", "dense", None)
    for ape in (False, True)
    for bias in (False, True)
]
EVERY_SIZE = [
    (source.name, name)
    for source in PUBLISHED.values()
    for name in ARCHITECTURES
    if name.startswith(source.family) and ending_of(name) == source.suffixes[0]
]


@pytest.fixture(autouse=True)
def shapes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing random weights takes most of the time, on the meta device too, and none are looked at here."""
    for family in (CvT, CMT):
        monkeypatch.setattr(family, "init_weights", lambda self: None)


@functools.cache
def meta_model(name: str, **kwargs: Any) -> Any:
    with torch.device("meta"):
        return catalog.create(name, **kwargs)


def meta_state(source: str, name: str, **kwargs: Any) -> dict[str, Tensor]:
    """The tensors that `source` would store of `name`, without memory."""
    model = meta_model(name, **kwargs)
    table = SOURCES[source]
    theirs = mapping.to_theirs(table, model.state_dict(), model.config.heads)
    return {table.spell(key, ""): tensor for key, tensor in theirs.items()}


@pytest.mark.parametrize(("source", "name"), EVERY_SIZE)
def test_every_size_of_every_source_is_recognised(source: str, name: str) -> None:
    found = identify(meta_state(source, name, num_classes=37))
    assert (found.source.name, found.architecture, found.num_classes) == (source, name, 37)
    assert found.model_args["in_chans"] == 3
    if name.startswith("cmt"):
        assert found.model_args["img_size"] == ARCHITECTURES[name].preprocess.image_size
    published = meta_model(name, num_classes=37)
    assert mapping.shapes_of(found.model.state_dict()) == mapping.shapes_of(published.state_dict())


def test_every_architecture_but_one_has_a_source() -> None:
    covered = {name for _, name in EVERY_SIZE}
    assert set(ARCHITECTURES) - covered == set()


@pytest.mark.parametrize("options", FLYEGLE_OPTIONS, ids=str)
def test_flyegles_options_are_told_from_its_tensors(options: dict[str, Any]) -> None:
    found = identify(meta_state("flyegle", "cmt_ti_flyegle", img_size=224, **options))
    assert found.architecture == "cmt_ti_flyegle"
    assert {key: found.model_args[key] for key in options} == options
    if options["position"] or options["absolute_position"]:
        assert found.model_args["img_size"] == (224, 224)


@pytest.mark.parametrize("source", ["huawei", "flyegle", "kecam", "kecam-own", "mindcv"])
@pytest.mark.parametrize("size", [128, 288])
def test_the_resolution_is_read_from_the_position_tables(source: str, size: int) -> None:
    name = f"cmt_ti{PUBLISHED[source].suffixes[0]}"
    assert identify(meta_state(source, name, img_size=size)).model_args["img_size"] == (size, size)


def test_a_table_that_is_not_square_needs_to_be_told_its_size() -> None:
    state = meta_state("huawei", "cmt_ti", img_size=(128, 192))
    with pytest.raises(CheckpointError, match="position tables for 1536 places, which is no square"):
        identify(state)
    assert identify(state, image_size=(128, 192)).model_args["img_size"] == (128, 192)


def test_another_number_of_input_channels_is_read_from_the_first_convolution() -> None:
    assert identify(meta_state("paddlevit", "cvt_13", in_chans=1)).model_args["in_chans"] == 1
    assert identify(meta_state("kecam", "cmt_ti_kecam_port", in_chans=5)).model_args["in_chans"] == 5


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "backbone.", "module._orig_mod.", "model.backbone."]
)
@pytest.mark.parametrize(("source", "name"), [("microsoft", "cvt_nano"), ("hybridvit-cmt", "cmt_nano")])
def test_wrappers_prefixes_are_taken_off(prefix: str, source: str, name: str) -> None:
    found = identify({prefix + key: tensor for key, tensor in meta_state(source, name).items()})
    assert (found.source.name, found.architecture, found.prefix) == (source, name, prefix)


def test_what_tools_leave_in_a_state_dict_is_dropped_by_name() -> None:
    state = {f"module.{key}": tensor for key, tensor in meta_state("huawei", "cmt_nano").items()}
    state |= {"n_averaged": torch.ones(()), "module.blocks_a.0.attn.total_ops": torch.ones(1)}
    found = identify(state)
    assert found.architecture == "cmt_nano"
    assert [key for key in found.state if mapping.is_leftover(key)] == ["n_averaged", "blocks_a.0.attn.total_ops"]


def test_transformers_files_open_with_the_arithmetic_that_is_asked_for() -> None:
    state = meta_state("transformers", "cvt_13_gelu")
    assert identify(state).architecture == "cvt_13_gelu"
    assert identify(state, arithmetic="authors").architecture == "cvt_13"


def test_weights_of_ones_own_have_no_authors_arithmetic() -> None:
    with pytest.raises(CheckpointError, match="trained with its own arithmetic"):
        identify(meta_state("flyegle", "cmt_ti_flyegle"), arithmetic="authors")


def test_transformers_files_without_the_cvt_prefix_are_recognised() -> None:
    state = {key.removeprefix("cvt."): tensor for key, tensor in meta_state("transformers", "cvt_21_gelu").items()}
    found = identify(state)
    assert (found.architecture, found.dialect) == ("cvt_21_gelu", "bare")


def test_one_tensor_in_two_spellings_is_a_doubt() -> None:
    state = meta_state("transformers", "cvt_21_gelu")
    state["encoder.stages.2.cls_token"] = state["cvt.encoder.stages.2.cls_token"]
    with pytest.raises(CheckpointError, match=r"holds cvt\.encoder\.stages\.2\.cls_token in two spellings"):
        identify(state)


@pytest.mark.parametrize("number", [0, 7, 40])
def test_a_file_that_lacks_single_tensors_is_still_recognised(number: int) -> None:
    state = meta_state("microsoft", "cvt_13")
    del state[list(state)[number]]
    assert identify(state).architecture == "cvt_13"


def test_our_own_names_need_a_name_for_the_arithmetic() -> None:
    state = meta_state("hybridvit-cvt", "cvt_13")
    with pytest.raises(CheckpointError, match=r"do not tell the arithmetic.*--architecture: cvt_13, cvt_13_gelu"):
        identify(state)
    with pytest.raises(CheckpointError, match="'resnet50', which is no name"):
        identify(state, architecture="resnet50")
    assert identify(state, architecture="cvt_13_gelu.tag").architecture == "cvt_13_gelu"
    assert (
        identify(meta_state("hybridvit-cmt", "cmt_ti_kecam"), architecture="cmt_ti_kecam").architecture
        == "cmt_ti_kecam"
    )


def test_a_size_that_nobody_published_is_refused_with_the_nearest() -> None:
    state = meta_state("microsoft", "cvt_13", depths=(1, 3, 10))
    with pytest.raises(CheckpointError, match=r"depths \(1, 3, 10\).*Nearest: cvt_13 with .*depths \(1, 2, 10\)"):
        identify(state)


def test_an_unknown_file_is_refused_with_the_three_nearest_and_what_speaks_against_them() -> None:
    with pytest.raises(CheckpointError) as caught:
        detect(["norm.weight", "head.weight", "conv1.weight", "layer1.0.conv1.weight"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert all("knows 2 of 4 names; unknown to it: conv1.weight, layer1.0.conv1.weight" in line for line in lines[1:3])


def test_names_that_several_sources_know_are_ambiguous() -> None:
    with pytest.raises(CheckpointError, match="knows every name, but so do others"):
        detect(["norm.weight", "norm.bias", "head.weight", "head.bias"])


def test_square_linear_weights_are_told_by_the_norms_names() -> None:
    """PaddleClas and microsoft share all names but those of BatchNorm's statistics."""
    assert detect(list(meta_state("paddleclas", "cvt_nano"))).name == "paddleclas"
    assert detect(list(meta_state("microsoft", "cvt_nano"))).name == "microsoft"


# ---- wrappers ---------------------------------------------------------------------------------------------------------------

STATE = {"a.weight": torch.ones(2), "a.bias": torch.ones(2)}


@pytest.mark.parametrize(
    ("tree", "sets"),
    [
        (STATE, ["raw"]),
        ({**STATE, "StructuredToParameterName@@": {"a.weight": "w_0"}}, ["raw"]),
        ({"epoch": 3, "model": "cls_cvt", "state_dict": STATE, "perf": 81.6, "optimizer": {}}, ["raw"]),
        ({"model": STATE, "optimizer": {}, "model_ema": None, "args": object()}, ["raw"]),
        ({"model": STATE, "model_ema": STATE, "epoch": 1}, ["raw", "ema"]),
        ({"state_dict": STATE, "state_dict_ema": STATE, "arch": "cvt_13"}, ["raw", "ema"]),
        ({"epoch": torch.tensor(3), "state_dict": STATE}, ["raw"]),
        ({0: torch.ones(1), 1: torch.ones(1)}, []),
        ({"epoch": 3, "optimizer": {"state": {0: {"step": 1}}}}, []),
        ({}, []),
    ],
)
def test_state_dicts_are_found_in_every_wrapper(tree: dict[str, Any], sets: list[str]) -> None:
    assert list(unwrap(tree).sets) == sets


def test_two_sets_of_one_kind_are_a_doubt() -> None:
    with pytest.raises(CheckpointError, match="several sets of weights, state_dict and model"):
        unwrap({"state_dict": STATE, "model": STATE})


def test_timms_checkpoints_name_their_architecture() -> None:
    assert unwrap({"arch": "cvt_13", "state_dict": STATE}).architecture == "cvt_13"


def test_a_prefix_that_not_all_names_share_stays() -> None:
    assert strip_prefixes({"model.a": torch.ones(1), "b": torch.ones(1)})[0] == ""
