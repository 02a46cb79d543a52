"""attribution/record.py: maps are the weights that were used, and taking them changes nothing."""

import pytest
import torch
from torch import nn
from transformers import CvtConfig, CvtForImageClassification

from hybridvit.attribution.record import record, sites
from hybridvit.errors import ConfigError
from hybridvit.models import catalog
from hybridvit.models.attention import explicit_attention

NAMES = ["cvt_nano", "cmt_nano", "cmt_ti", "cmt_ti_flyegle", "cmt_ti_kecam"]
SIZE = (96, 160)


def random_model(name: str, **kwargs: object) -> nn.Module:
    """Every tensor random, BatchNorm's statistics included, so that attention is far from even."""
    torch.manual_seed(0)
    model = catalog.create(name, num_classes=5, **kwargs)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor), alpha=0.1)
    return model.double().eval()


@pytest.mark.parametrize("name", NAMES)
def test_rows_sum_to_one_on_the_models_own_grids(name: str) -> None:
    model = random_model(name, img_size=SIZE)
    maps = record(model, torch.randn(2, 3, *SIZE, dtype=torch.float64))
    assert [(each.stage, each.block) for each in maps] == [
        (stage, block) for stage, depth in enumerate(model.config.depths) for block in range(depth)
    ]
    for each in maps:
        num_cls = int(name.startswith("cvt") and each.stage == len(model.config.depths) - 1)
        queries, keys = (rows * columns + num_cls for rows, columns in (each.query_grid, each.key_grid))
        heads = model.config.heads[each.stage]
        assert each.has_class_token == bool(num_cls)
        assert each.weights_BhNM.shape == (2, heads, queries, keys)
        torch.testing.assert_close(
            each.weights_BhNM.sum(dim=-1), torch.ones(2, heads, queries, dtype=torch.float64), rtol=0, atol=1e-12
        )
        assert each.from_everywhere().shape == each.from_query(0, 0).shape == (2, heads, *each.key_grid)


@pytest.mark.parametrize("name", NAMES)
def test_recording_changes_no_logit(name: str) -> None:
    model, x = random_model(name, img_size=SIZE), torch.randn(1, 3, *SIZE, dtype=torch.float64)
    heard: list[torch.Tensor] = []
    with torch.no_grad():
        plain = model(x)
        hook = model.register_forward_hook(lambda _module, _inputs, output: heard.append(output))
        record(model, x)
        with explicit_attention():
            record(model, x)
    hook.remove()
    assert torch.equal(heard[0], plain)
    torch.testing.assert_close(heard[1], plain, rtol=1e-10, atol=1e-10)


def test_nothing_is_recorded_afterwards() -> None:
    model, x = random_model("cvt_nano"), torch.randn(1, 3, 32, 32, dtype=torch.float64)
    maps = record(model, x)
    before = len(maps)
    model(x)
    assert len(maps) == before


def test_recording_works_after_torch_compile() -> None:
    model, x = random_model("cvt_nano"), torch.randn(1, 3, 32, 32, dtype=torch.float64)
    plain = record(model, x)
    compiled = torch.compile(model, backend="eager")
    compiled(x)
    kept: list[torch.Tensor] = []
    from hybridvit.models.attention import recorded_attention

    with recorded_attention(kept.append), torch.no_grad():
        compiled(x)
    for one, other in zip(plain, kept, strict=True):
        torch.testing.assert_close(one.weights_BhNM, other)


def test_maps_are_those_of_transformers() -> None:
    """transformers returns the last stage's attentions of CvT; the other stages are compared block by block through hooks."""
    config = CvtConfig(depth=[1, 2, 3], embed_dim=[16, 32, 64], num_heads=[1, 2, 4], num_labels=5)
    torch.manual_seed(0)
    theirs = CvtForImageClassification(config).double().eval()
    ours = (
        catalog.create("cvt_13_gelu", num_classes=5, depths=(1, 2, 3), dims=(16, 32, 64), heads=(1, 2, 4))
        .double()
        .eval()
    )
    _copy(theirs, ours)

    seen: list[torch.Tensor] = []
    original = torch.nn.functional.softmax
    x = torch.randn(1, 3, 70, 50, dtype=torch.float64)

    def listening(scores: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        seen.append(original(scores, *args, **kwargs))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(torch.nn.functional, "softmax", listening)
        logits = theirs(x).logits
    maps = record(ours, x)
    torch.testing.assert_close(ours(x), logits, rtol=0, atol=1e-10)
    assert len(seen) == len(maps) == 6
    for theirs_BhNM, each in zip(seen, maps, strict=True):
        torch.testing.assert_close(each.weights_BhNM, theirs_BhNM, rtol=0, atol=1e-12)


def _copy(theirs: nn.Module, ours: nn.Module) -> None:
    """Weights of transformers into our names."""
    state = theirs.state_dict()
    renamed = {}
    for key, value in state.items():
        new = key.removeprefix("cvt.encoder.")
        for old, name in {
            "embedding.convolution_embeddings.projection": "embed.conv",
            "embedding.convolution_embeddings.normalization": "embed.norm",
            "layers.": "blocks.",
            "attention.attention.convolution_projection_query.convolution_projection.convolution": "attn.q.conv",
            "attention.attention.convolution_projection_query.convolution_projection.normalization": "attn.q.norm",
            "attention.attention.convolution_projection_key.convolution_projection.convolution": "attn.k.conv",
            "attention.attention.convolution_projection_key.convolution_projection.normalization": "attn.k.norm",
            "attention.attention.convolution_projection_value.convolution_projection.convolution": "attn.v.conv",
            "attention.attention.convolution_projection_value.convolution_projection.normalization": "attn.v.norm",
            "attention.attention.projection_query": "attn.q.linear",
            "attention.attention.projection_key": "attn.k.linear",
            "attention.attention.projection_value": "attn.v.linear",
            "attention.output.dense": "attn.proj",
            "intermediate.dense": "mlp.fc1",
            "output.dense": "mlp.fc2",
            "layernorm_before": "norm1",
            "layernorm_after": "norm2",
            "classifier": "head",
            "layernorm.": "norm.",
        }.items():
            new = new.replace(old, name)
        renamed[new] = value
    ours.load_state_dict(renamed)


def test_a_query_row_is_that_tokens_row() -> None:
    model = random_model("cvt_nano")
    last = record(model, torch.randn(1, 3, 64, 96, dtype=torch.float64))[-1]
    assert last.query_grid == (8, 12)
    assert last.key_grid == (4, 6)
    row = last.weights_BhNM[:, :, 1 + 2 * 12 + 5, 1:]
    assert torch.equal(last.from_query(2, 5).flatten(2), row)
    assert torch.equal(last.from_class_token().flatten(2), last.weights_BhNM[:, :, 0, 1:])


def test_a_map_without_class_token_says_so() -> None:
    model = random_model("cmt_nano")
    with pytest.raises(ConfigError, match="stage 0, block 0 has no class token"):
        record(model, torch.randn(1, 3, 32, 32, dtype=torch.float64))[0].from_class_token()


def test_cmts_key_grids_are_8_4_2_and_1_times_coarser() -> None:
    grids = {site.stage: (site.query_grid, site.key_grid) for site in sites(catalog.create("cmt_ti"), (160, 224))}
    assert grids == {
        0: ((40, 56), (5, 7)),
        1: ((20, 28), (5, 7)),
        2: ((10, 14), (5, 7)),
        3: ((5, 7), (5, 7)),
    }
