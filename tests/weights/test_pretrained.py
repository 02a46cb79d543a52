"""weights/pretrained.py: published weights under their names, in this library and in timm, adapted as timm adapts."""

from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

import hybridvit
from hybridvit.errors import CheckpointError, ConfigError, DownloadError
from hybridvit.models import catalog
from hybridvit.weights import checkpoint
from hybridvit.weights.load import read_checkpoint
from hybridvit.weights.published import WEIGHTS
from support import pictures, randomise


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which two sets of weights already lie."""
    folder = tmp_path_factory.mktemp("cache")
    for tagged in ("cvt_13.ms_in1k", "cvt_13.ms_in1k_384", "cmt_ti.huawei_in1k", "cmt_ti_kecam.in1k_224"):
        size = WEIGHTS[tagged].preprocess.image_size
        model = randomise(catalog.create(tagged.partition(".")[0], img_size=size), seed=len(tagged)).float()
        checkpoint.save(model, folder / f"{tagged}.safetensors", preprocess=WEIGHTS[tagged].preprocess)
    return folder


@pytest.fixture(autouse=True)
def _use_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRIDVIT_CACHE", str(cache))


def stored(cache: Path, tagged: str) -> dict[str, Tensor]:
    return read_checkpoint(cache / f"{tagged}.safetensors").state


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], *, but: tuple[str, ...] = ()) -> None:
    assert found.keys() == expected.keys()
    for key in found.keys() - set(but):
        torch.testing.assert_close(found[key], expected[key], rtol=0, atol=0)


@pytest.mark.parametrize("create", [hybridvit.create_model, timm.create_model])
@pytest.mark.parametrize(
    ("name", "tagged"),
    [("cvt_13", "cvt_13.ms_in1k"), ("cvt_13.ms_in1k_384", "cvt_13.ms_in1k_384"), ("cmt_ti", "cmt_ti.huawei_in1k")],
)
def test_a_name_gives_its_published_weights_and_their_preprocessing(
    cache: Path, create: object, name: str, tagged: str
) -> None:
    model = create(name, pretrained=True)
    assert_same(model.state_dict(), stored(cache, tagged))
    assert model.pretrained_cfg["tag"] == tagged.partition(".")[2]
    assert model.pretrained_cfg["input_size"][1:] == WEIGHTS[tagged].preprocess.image_size


@pytest.mark.parametrize("create", [hybridvit.create_model, timm.create_model])
@pytest.mark.parametrize("name", ["cvt_13", "cmt_ti"])
def test_another_number_of_classes_begins_a_new_head_and_keeps_the_rest(cache: Path, create: object, name: str) -> None:
    head = ("head.weight", "head.bias") if name == "cvt_13" else ("head.fc.weight", "head.fc.bias")
    model = create(name, pretrained=True, num_classes=7)
    assert model.state_dict()[head[0]].shape[0] == 7
    assert_same(model.state_dict(), stored(cache, hybridvit.list_models(f"{name}.*", pretrained=True)[0]), but=head)
    assert create(name, pretrained=True, num_classes=0)(torch.zeros(1, 3, 64, 64)).shape[1] == model.head_hidden_size


@pytest.mark.parametrize("in_chans", [1, 4])
@pytest.mark.parametrize("name", ["cvt_13", "cmt_ti"])
def test_another_number_of_channels_adapts_the_first_convolution_as_timm_does(
    cache: Path, name: str, in_chans: int
) -> None:
    first = "stages.0.embed.conv.weight" if name == "cvt_13" else "stem.0.conv.weight"
    expected = stored(cache, hybridvit.list_models(f"{name}.*", pretrained=True)[0])
    model = hybridvit.create_model(name, pretrained=True, in_chans=in_chans)
    assert_same(model.state_dict(), expected, but=(first,))
    repeated = expected[first].repeat(1, 2, 1, 1)[:, :in_chans] * 3 / in_chans
    summed = expected[first].sum(dim=1, keepdim=True)
    torch.testing.assert_close(model.state_dict()[first], summed if in_chans == 1 else repeated)


@pytest.mark.parametrize("img_size", [224, (96, 160)])
def test_another_size_resizes_the_position_tables_for_good(cache: Path, img_size: int | tuple[int, int]) -> None:
    native = hybridvit.create_model("cmt_ti", pretrained=True).eval()
    model = timm.create_model("cmt_ti", pretrained=True, img_size=img_size).eval()
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    assert model.stages[0].position.table.shape == (1, height * width // 16, (height // 32) * (width // 32))
    x = pictures(1, height, width).float()
    with torch.no_grad():
        torch.testing.assert_close(model(x), native(x))  # which resizes its tables on the fly


def test_weights_for_a_larger_size_than_the_architectures_come_at_their_own_size(cache: Path) -> None:
    model = hybridvit.create_model("cmt_ti_kecam.in1k_224", pretrained=True)
    assert model.img_size == hybridvit.create_model("cmt_ti_kecam.in1k_224").img_size == (224, 224)
    assert_same(model.state_dict(), stored(cache, "cmt_ti_kecam.in1k_224"))


@pytest.mark.parametrize("name", ["cvt_13", "cmt_ti"])
def test_features_come_from_the_published_weights(name: str) -> None:
    x = pictures(1, 96, 64).float()
    features = timm.create_model(
        name, pretrained=True, features_only=True, img_size=(96, 64), out_indices=(0, 2)
    ).eval()
    whole = hybridvit.create_model(name, pretrained=True, img_size=(96, 64)).eval()
    with torch.no_grad():
        expected = whole.forward_intermediates(x, indices=[0, 2], intermediates_only=True)
        for found, map_BCHW in zip(features(x), expected, strict=True):
            torch.testing.assert_close(found, map_BCHW)


def test_another_arithmetic_may_be_asked_of_the_same_weights(cache: Path) -> None:
    model = hybridvit.create_model("cvt_13", pretrained=True, activation="gelu", num_classes=3)
    assert_same(model.state_dict(), stored(cache, "cvt_13.ms_in1k"), but=("head.weight", "head.bias"))
    assert model.config.activation == "gelu"


@pytest.mark.parametrize("num_classes", [1000, 3])
def test_a_change_that_the_weights_do_not_fit_is_refused(num_classes: int) -> None:
    with pytest.raises(ConfigError, match="trained with other values of qkv_bias: its weights do not fit"):
        hybridvit.create_model("cmt_ti", pretrained=True, qkv_bias=False, num_classes=num_classes)


@pytest.mark.parametrize("create", [hybridvit.create_model, timm.create_model])
@pytest.mark.parametrize("name", ["cmt_l", "cvt_nano", "cvt_13_gelu"])
def test_without_published_weights_there_is_an_error_and_no_random_model(create: object, name: str) -> None:
    with pytest.raises(DownloadError, match=f"No weights of {name} were published"):
        create(name, pretrained=True)


def test_timms_cache_folder_is_used(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "cmt_ti.huawei_in1k.safetensors").symlink_to(cache / "cmt_ti.huawei_in1k.safetensors")
    timm.create_model("cmt_ti", pretrained=True, cache_dir=tmp_path)
    with pytest.raises(DownloadError, match="only a person"):
        timm.create_model("cmt_ti_flyegle", pretrained=True, cache_dir=tmp_path)


def test_a_damaged_file_in_the_cache_says_how_to_mend_it(cache: Path, tmp_path: Path) -> None:
    whole = (cache / "cmt_ti.huawei_in1k.safetensors").read_bytes()
    (tmp_path / "cmt_ti.huawei_in1k.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="Delete it, and it will be fetched again"):
        hybridvit.create_model("cmt_ti", pretrained=True, cache_dir=tmp_path)


def test_every_published_name_is_listed() -> None:
    assert hybridvit.list_models("cmt_b*", pretrained=True) == ["cmt_b.huawei_in1k", "cmt_b_kecam_port.huawei_in1k"]
    assert "cmt_l" in hybridvit.list_models()
