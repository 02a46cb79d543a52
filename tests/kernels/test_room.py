"""Private and version-bound calls stand in kernels, and each is named here: a red test says what a new release has moved."""

import ast
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_modules

import hybridvit
from hybridvit.kernels import private

SOURCE = Path(hybridvit.__file__).parent
LIBRARIES = ("torch", "timm", "torchvision", "onnxruntime", "openvino", "huggingface_hub", "pickle", "safetensors")


def private_names(path: Path) -> list[str]:
    """Underscored names of libraries that a file imports or reads, and torch.ops."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] in LIBRARIES]
        elif isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            names = [text] if text.split(".")[0] in LIBRARIES else []
        else:
            continue
        found += [name for name in names if "._" in name.replace(".__", ".") or name.startswith("torch.ops.mkldnn")]
    return found


def test_private_calls_stand_in_kernels_only() -> None:
    assert {
        str(path.relative_to(SOURCE)): names
        for path in SOURCE.rglob("*.py")
        if path.parent.name != "kernels" and (names := private_names(path))
    } == {}


@pytest.mark.parametrize(
    "name",
    [
        "mkldnn._linear_pointwise",  # products
        "mkldnn._convolution_pointwise",  # convolution, and below
        "mkldnn._convolution_pointwise_",
        "mkldnn._reorder_convolution_weight",
        "aten.convolution_backward",  # products
        "aten.silu_",  # layers, and below
        "aten.gelu_",
        "aten.silu_backward.grad_input",
        "aten.native_batch_norm.out",
        "aten._softmax_backward_data",  # tiles
    ],
)
def test_an_operator_of_torch_is_where_it_was(name: str) -> None:
    operator: object = torch.ops
    for part in name.split("."):
        operator = getattr(operator, part)
    assert callable(operator)


def test_names_that_torch_and_timm_do_not_promise_are_where_they_were() -> None:
    from timm.models._features import feature_take_indices
    from torch._inductor import aoti_compile_and_package, aoti_load_package, config
    from torch.autograd import forward_ad
    from torchvision.models.detection._utils import BoxCoder, Matcher

    assert feature_take_indices(3, [-1]) == ([2], 2)  # features
    assert hasattr(config, "freezing")  # inductor
    assert callable(aoti_compile_and_package)
    assert callable(aoti_load_package)
    assert forward_ad._current_level == -1  # state, and below
    assert torch._C._len_torch_dispatch_stack() == 0
    assert torch._C._are_functorch_transforms_active() is False
    assert torch_modules._global_forward_hooks == torch_modules._global_forward_pre_hooks == {}
    assert nn.Identity()._forward_hooks == nn.Identity()._forward_pre_hooks == {}
    assert issubclass(nn.SyncBatchNorm, nn.modules.batchnorm._BatchNorm)  # private, and below
    assert pickle._Unpickler.dispatch.keys() >= {pickle.REDUCE[0], pickle.BUILD[0], pickle.GLOBAL[0]}
    assert torch.UntypedStorage._new_shared(8).is_shared()
    coder, matcher = BoxCoder((1.0,) * 4), Matcher(0.5, 0.4, allow_low_quality_matches=True)  # detection
    assert coder.decode_single(torch.zeros(1, 4), torch.tensor([[0.0, 0, 2, 4]])).tolist() == [[0, 0, 2, 4]]
    assert matcher(torch.tensor([[0.6, 0.1]])).tolist() == [0, -1]
    assert torch.zeros(1).add_(1)._version == 1  # kept


def test_the_kernels_of_whole_lists_do_what_loops_would() -> None:
    sources, targets = [torch.tensor([3.0, 4.0]), torch.ones(1)], [torch.zeros(2), torch.zeros(1)]
    private.copy_all(targets, sources)
    assert private.norms(targets).tolist() == [5, 1]
