"""What is timed: a model by name, a batch of random pictures, one inference or one training step."""

from collections.abc import Callable

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hybridvit.deploy import engines
from hybridvit.errors import ConfigError
from hybridvit.models import catalog

Step = Callable[[], None]


def count_gmacs(model: nn.Module, image_size: tuple[int, int]) -> float:
    """10^9 multiply-accumulates for one picture. (PyTorch counts two operations for each.)"""
    channels, parameter = getattr(model, "in_chans", 3), next(model.parameters())
    with FlopCounterMode(display=False) as counter:  # with gradients: its hooks stumble over parameters without
        model(torch.randn(1, channels, *image_size).to(parameter))
    return counter.get_total_flops() / 2e9


def published_top1(name: str) -> float | None:
    """ImageNet-1k top-1 in percent, at the size it was published for."""
    return catalog.ARCHITECTURES[name].top1 if name in catalog.ARCHITECTURES else TIMM_TOP1.get(name)


def own_size(name: str) -> tuple[int, int]:
    """The rows and columns of pictures that the published accuracy is for."""
    if name in catalog.ARCHITECTURES:
        return catalog.ARCHITECTURES[name].preprocess.image_size
    if name in TIMM_TOP1 or not timm.is_model(name):
        return (380, 380) if name == "efficientnet_b4" else (224, 224)
    config = timm.get_pretrained_cfg(name)
    return (224, 224) if config is None else (config.input_size[1], config.input_size[2])


TIMM_TOP1 = {
    # As the papers state them for training on ImageNet-1k alone, at `own_size`.
    "resnet50": 76.1,
    "swin_tiny_patch4_window7_224": 81.3,
    "convnext_tiny": 82.1,
    "pvt_v2_b2": 82.0,
    "coat_lite_small": 81.9,
    "efficientnet_b0": 77.1,
    "efficientnet_b4": 82.9,
}


def create(name: str, image_size: tuple[int, int]) -> nn.Module:
    """With random weights, for pictures of that size, channels-last, in eval mode.

    Raises: ConfigError for an unknown name, or a size that the model does not take.
    """
    if name in catalog.ARCHITECTURES:
        model: nn.Module = catalog.create(name, img_size=image_size)
    elif not timm.is_model(name):
        raise ConfigError(f"Neither hybridvit nor timm knows a model called {name!r}.")
    else:
        try:
            model = timm.create_model(name, img_size=image_size)
        except TypeError:  # most convolutional networks take any size, and no such argument
            model = timm.create_model(name)
    model = model.eval().to(memory_format=torch.channels_last)
    try:
        with torch.no_grad():
            model(random_images(1, image_size))
    except (RuntimeError, AssertionError, ValueError) as error:
        rows, columns = own_size(name)
        said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ConfigError(
            f"{name} does not take pictures of {image_size[0]} x {image_size[1]} pixels ({said}). "
            f"Published for {rows} x {columns}: leave --image-size off."
        ) from None
    return model


def random_images(batch_size: int, image_size: tuple[int, int]) -> Tensor:
    """Shape: -> (B, 3, H, W), channels-last."""
    return torch.randn(batch_size, 3, *image_size).contiguous(memory_format=torch.channels_last)


def step(model: nn.Module, images: Tensor, *, engine_name: str, train: bool) -> Step:
    """One batch on that engine, or one training step."""
    if train:
        return _train_step(model, images)
    size = (images.shape[2], images.shape[3])
    engine = engines.build(engine_name, model, image_size=size, batch_size=len(images))

    def infer() -> None:
        with torch.inference_mode():
            engine(images)

    return infer


def _train_step(model: nn.Module, images: Tensor) -> Step:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    labels = torch.zeros(len(images), dtype=torch.int64)

    def train() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return train
