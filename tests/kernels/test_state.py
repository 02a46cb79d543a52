"""Who looks at a layer's numbers decides how it may compute them."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from hybridvit.deploy.fuse import fuse
from hybridvit.kernels.state import is_eager, is_plain, overwrites
from hybridvit.models import catalog
from hybridvit.models.heads import assembly
from support import pictures, randomise, relative_error

torchs_own_warning = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
NAMES = ["cvt_nano", "cmt_nano", "cmt_ti_flyegle"]


def small(name: str) -> nn.Module:
    kwargs = {"dims": (8, 16, 24, 32), "depths": (1, 1, 1, 1)} if name == "cmt_ti_flyegle" else {}
    return randomise(catalog.create(name, num_classes=5, img_size=64, **kwargs)).eval()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["module", "pre", "global", "global pre"])
@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
def test_a_hook_keeps_what_it_was_shown(name: str, kind: str, fused: bool) -> None:
    model = small(name)
    model = fuse(model) if fused else model
    x = pictures(2, 64, 72)
    expected = model(x)
    kept: list[tuple[Tensor, Tensor]] = []

    def keep(tensors: object) -> None:
        each = tensors if isinstance(tensors, tuple) else (tensors,)
        kept.extend((tensor, tensor.clone()) for tensor in each if isinstance(tensor, Tensor))

    if kind == "module":
        handles = [m.register_forward_hook(lambda _, __, output: keep(output)) for m in model.modules()]
    elif kind == "pre":
        handles = [m.register_forward_pre_hook(lambda _, inputs: keep(inputs)) for m in model.modules()]
    elif kind == "global":
        handles = [nn.modules.module.register_module_forward_hook(lambda _, __, output: keep(output))]
    else:
        handles = [nn.modules.module.register_module_forward_pre_hook(lambda _, inputs: keep(inputs))]
    try:
        found = model(x)
    finally:
        for handle in handles:
            handle.remove()
    assert relative_error(found, expected) < 1e-12
    assert len(kept) > 20
    assert all(torch.equal(tensor, copy) for tensor, copy in kept)


@pytest.mark.parametrize(
    "name", ["retinanet_cmt_nano", "mask_rcnn_cvt_nano", "semantic_fpn_cvt_nano", "upernet_cmt_nano"]
)
@torch.no_grad()
def test_a_hook_of_a_detector_or_segmenter_keeps_what_it_was_shown(name: str) -> None:
    model = randomise(assembly.create(name, num_classes=5)).float().eval()
    kept: list[tuple[Tensor, Tensor]] = []
    for module in model.modules():
        module.register_forward_hook(
            lambda _, __, output: kept.append((output, output.clone())) if isinstance(output, Tensor) else None
        )
    model(torch.randn(1, 3, 64, 96))
    assert len(kept) > 20
    assert all(torch.equal(tensor, copy) for tensor, copy in kept)


@torch.no_grad()
def test_a_layer_outside_a_model_overwrites_nothing() -> None:
    ffn = small("cmt_nano").stages[0].blocks[0].ffn
    x_BCHW = torch.randn(1, ffn.project.norm.num_features, 8, 8, dtype=torch.float64)
    expanded = ffn.expand.conv(x_BCHW)
    before = expanded.clone()
    ffn.expand.norm(ffn.expand.act(expanded))
    assert torch.equal(expanded, before)


@torchs_own_warning
@pytest.mark.parametrize("name", NAMES)
def test_forward_mode_differentiation_gives_the_directional_derivative(name: str) -> None:
    model = small(name)
    x, direction = pictures(1, 64, 72), pictures(1, 64, 72).flip(-1)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(model(forward_ad.make_dual(x, direction))).tangent
    x.requires_grad_()
    logits = model(x)
    for number in range(5):
        (gradient,) = torch.autograd.grad(logits[0, number], x, retain_graph=True)
        assert relative_error(found[0, number], (gradient * direction).sum()) < 1e-9
    _, through_func = torch.func.jvp(model, (x.detach(),), (direction,))
    assert relative_error(through_func, found) < 1e-12


@torchs_own_warning
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("name", ["cvt_nano", "cmt_nano"])
def test_jacobians_forwards_and_backwards_agree_and_models_are_mapped_over(name: str) -> None:
    model, x = small(name), pictures(1, 16, 24)
    assert relative_error(torch.func.jacfwd(model)(x), torch.autograd.functional.jacobian(model, x)) < 1e-9
    several = torch.stack([x, x.flip(-1)])
    assert relative_error(torch.func.vmap(model)(several), torch.stack([model(each) for each in several])) < 1e-12


@torchs_own_warning
def test_the_calls_of_torch_that_tell_who_is_looking_still_tell() -> None:
    x = torch.zeros(1)
    seen: dict[str, bool] = {}
    assert is_eager(x)
    assert is_plain(x)
    with FlopCounterMode(display=False):  # torch._C._len_torch_dispatch_stack
        seen["dispatch"] = is_eager(x)
    torch.func.vmap(lambda row: seen.update(functorch=is_eager(row)) or row)(x)  # _are_functorch_transforms_active
    with forward_ad.dual_level():  # forward_ad._current_level
        seen["forward"] = is_eager(x)
    torch.jit.trace(lambda row: seen.update(traced=is_eager(row)) or row, (x,), check_trace=False)
    with torch.autocast("cpu", torch.bfloat16):
        seen["cast"] = is_plain(x)
    seen["meta"] = is_plain(torch.zeros(1, device="meta"))
    assert not any(seen.values()), seen
    assert len(seen) == 6


def test_hooks_are_found_where_torch_keeps_them() -> None:
    """nn.Module._forward_hooks, _forward_pre_hooks, and the two global ones of torch.nn.modules.module."""
    from hybridvit.kernels.state import has_hooks

    model = nn.Sequential(nn.Identity())
    assert not has_hooks(model)
    for register in (
        model[0].register_forward_hook,
        model[0].register_forward_pre_hook,
        nn.modules.module.register_module_forward_hook,
        nn.modules.module.register_module_forward_pre_hook,
    ):
        handle = register(lambda *_: None)
        assert has_hooks(model)
        handle.remove()
        assert not has_hooks(model)
    assert overwrites(lambda _: 3)(model) == 3
