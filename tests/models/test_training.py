"""What happens around a model in training: initialisation, stochastic depth, dropout, checkpointing, half precision, graphs."""

import copy

import pytest
import torch
from timm.layers import DropPath
from torch import nn

import hybridvit
from hybridvit.models import catalog
from support import pictures, randomise, relative_error


def test_cvt_starts_from_small_linear_layers_and_the_frameworks_convolutions() -> None:
    model = hybridvit.create_model("cvt_13")
    for module in model.modules():
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert not module.bias.any()
        elif isinstance(module, nn.Conv2d):
            bound = (module.in_channels // module.groups * module.kernel_size[0] ** 2) ** -0.5
            assert module.weight.abs().max() <= bound  # uniform, not He
    assert model.stages[2].cls_token.std().item() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("name", ["cmt_ti", "cmt_ti_flyegle", "cmt_ti_kecam"])
def test_cmt_starts_from_he_convolutions_and_its_own_tables(name: str) -> None:
    model = hybridvit.create_model(name)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2  # as torch counts it, whatever the groups
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.25)
            if name != "cmt_ti_flyegle" and module.bias is not None:
                assert not module.bias.any()
    table = next(p for n, p in model.named_parameters() if n.endswith("position.table"))
    assert table.std().item() == pytest.approx(
        {"cmt_ti": 1.0, "cmt_ti_flyegle": 0.2, "cmt_ti_kecam": 0.0}[name], rel=0.1
    )


def drop_path_rates(model: nn.Module, branch: str) -> list[list[float]]:
    return [[round(getattr(block, branch).drop_prob, 6) for block in stage.blocks] for stage in model.stages]


def test_stochastic_depth_of_cvt_rises_within_the_last_stage_only() -> None:
    rates = drop_path_rates(hybridvit.create_model("cvt_13", drop_path_rate=0.9), "drop_path")
    assert rates == [[0.0], [0.0, 0.0], [round(0.1 * n, 6) for n in range(10)]]


def test_transformers_gives_every_block_of_the_last_stage_the_rate_of_its_third() -> None:
    rates = drop_path_rates(hybridvit.create_model("cvt_13_gelu", drop_path_rate=0.9), "drop_path")
    assert rates == [[0.0], [0.0, 0.0], [0.2] * 10]


def test_transformers_drops_the_whole_sample_where_the_authors_drop_a_branch() -> None:
    torch.manual_seed(0)
    authors, transformers = (
        hybridvit.create_model(name).stages[2].blocks[0].train() for name in ("cvt_13", "cvt_13_gelu")
    )
    for block in (authors, transformers):
        block.drop_path = DropPath(1.0 - 1e-9, scale_by_keep=False)
    x_BNC = torch.randn(2, 17, 384)
    assert torch.equal(authors(x_BNC, (4, 4)), x_BNC)
    assert not transformers(x_BNC, (4, 4)).any()


def test_stochastic_depth_of_cmt_rises_over_all_blocks() -> None:
    steps = [round(0.15 * n / 15, 6) for n in range(16)]
    expected = [steps[:2], steps[2:4], steps[4:14], steps[14:]]
    model = hybridvit.create_model("cmt_ti", drop_path_rate=0.15)
    assert drop_path_rates(model, "drop_path1") == drop_path_rates(model, "drop_path2") == expected


def test_flyegle_drops_only_the_feed_forward_branch_and_kecam_rises_to_one_step_below_the_rate() -> None:
    flyegle = hybridvit.create_model("cmt_ti_flyegle", drop_path_rate=0.15)
    assert sum(map(sum, drop_path_rates(flyegle, "drop_path1"))) == 0.0
    assert drop_path_rates(flyegle, "drop_path2")[3][-1] == 0.15
    kecam = hybridvit.create_model("cmt_ti_kecam", drop_path_rate=0.16)
    assert drop_path_rates(kecam, "drop_path1")[3][-1] == 0.15


def test_dropout_is_what_each_arithmetic_trains_with() -> None:
    rates = {
        name: (model.head.drop.p, model.stages[0].blocks[0].attn.attn_drop, model.stages[0].blocks[0].ffn.drop.p)
        for name in ("cmt_ti", "cmt_b", "cmt_ti_flyegle", "cmt_ti_kecam")
        for model in [hybridvit.create_model(name, depths=(1, 1, 1, 1))]
    }
    assert rates == {
        "cmt_ti": (0.1, 0.0, 0.0),
        "cmt_b": (0.3, 0.0, 0.0),
        "cmt_ti_flyegle": (0.1, 0.1, 0.0),
        "cmt_ti_kecam": (0.0, 0.0, 0.0),
    }


@pytest.mark.parametrize(
    ("attention", "embed", "blocks"),
    [("cmt_ti", 1e-5, 1e-6), ("cmt_ti_kecam_port", 1e-5, 1e-5), ("cmt_ti_mindcv", 1e-7, 1e-7)],
)
def test_norms_have_the_epsilon_of_their_source(attention: str, embed: float, blocks: float) -> None:
    stage = hybridvit.create_model(attention, depths=(1, 1, 1, 1)).stages[0]
    assert (stage.embed.norm.eps, stage.blocks[0].norm1.eps, stage.blocks[0].norm2.eps) == (embed, blocks, blocks)
    assert {
        m.eps for m in hybridvit.create_model("cvt_13").modules() if isinstance(m, nn.LayerNorm | nn.BatchNorm2d)
    } == {1e-5}


@pytest.mark.parametrize("name", ["cvt_nano", "cmt_nano"])
def test_gradient_checkpointing_changes_no_gradient_and_no_statistics(name: str) -> None:
    plain = randomise(catalog.create(name, num_classes=5, drop_rate=0.0)).train()
    saving = copy.deepcopy(plain)
    saving.set_grad_checkpointing()
    x = pictures(2, 32, 48)
    for model in (plain, saving):
        model(x).square().sum().backward()
    for (key, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert relative_error(b.grad, a.grad) < 1e-10 or a.grad.norm() < 1e-9, key
    for (key, a), b in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(b, a), key


@pytest.mark.parametrize("name", ["cvt_nano", "cmt_nano"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_give_nearly_the_same_logits(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = catalog.create(name, num_classes=5).eval()
    x = torch.randn(2, 3, 32, 40)
    with torch.no_grad():
        expected = model(x)
        found = copy.deepcopy(model).to(dtype)(x.to(dtype))
    assert found.dtype == dtype
    assert relative_error(found.float(), expected) < (0.02 if dtype == torch.float16 else 0.1)


@pytest.mark.parametrize("name", ["cvt_nano", "cmt_nano"])
def test_autocast_to_bfloat16_trains(name: str) -> None:
    torch.manual_seed(0)
    model = catalog.create(name, num_classes=5).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(torch.randn(4, 3, 32, 32)).float().square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ["cvt_nano", "cmt_nano"])
def test_an_exported_graph_computes_the_same(name: str) -> None:
    model = catalog.create(name, num_classes=5).double().eval()
    x = torch.randn(2, 3, 32, 40, dtype=torch.float64)
    batch = torch.export.Dim("batch", min=1, max=64)
    graph = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    with torch.no_grad():
        for pictures in (x, torch.randn(5, 3, 32, 40, dtype=torch.float64)):
            assert relative_error(graph.module()(pictures), model(pictures)) < 1e-12


@pytest.mark.parametrize("name", ["cvt_nano", "cmt_nano"])
def test_a_compiled_model_computes_the_same_in_one_graph(name: str) -> None:
    torch.compiler.reset()
    model = catalog.create(name, num_classes=5).double().eval()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = torch.randn(2, 3, 32, 40, dtype=torch.float64)
    with torch.no_grad():
        assert relative_error(compiled(x), model(x)) < 1e-12
    compiled.train()(x).sum().backward()
