"""Two weights files, or one and golden answers, run on the same pictures."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybridvit.compare import golden
from hybridvit.compare.align import Alignment, Side, align
from hybridvit.data.decode import decode
from hybridvit.data.transforms import eval_transform
from hybridvit.data.unlabelled import list_pictures
from hybridvit.errors import ConfigError
from hybridvit.weights.load import load

MOST_PICTURES = 8


def align_files(
    a: str | Path,
    b: str | Path,
    *,
    images: str | Path | None = None,
    dtype: str = "float64",
    tolerance: float | None = None,
) -> Alignment:
    """Where two checkpoints part, layer by layer, forwards and backwards; either may be golden answers (.json).

    Args:
        images: a folder; its first 8 pictures are taken instead of noise.
        tolerance: relative differences above it count as parting; by default 1e-9, in float32 1e-4.

    Raises: CheckpointError, DataError for what cannot be read; ConfigError for what cannot be compared.
    """
    first, second = sorted((Path(a), Path(b)), key=lambda path: path.suffix == ".json")
    kind = getattr(torch, dtype)
    if second.suffix == ".json":
        if first.suffix == ".json" or images:
            raise ConfigError(
                "Golden answers come with pictures of their own and are compared with a checkpoint, nothing else."
            )
        answers = golden.read(second)
        return golden.align_with_golden(str(first), load(first), answers, dtype=kind, tolerance=tolerance)
    models: list[Any] = [load(file) for file in (first, second)]
    if models[0].in_chans != models[1].in_chans:
        raise ConfigError(f"{first} takes {models[0].in_chans} channels, {second} {models[1].in_chans}.")
    sides = [
        Side(name=f"{file} ({model.architecture})", model=model)
        for file, model in zip((first, second), models, strict=True)
    ]
    x_BCHW = _noise(models[0]) if images is None else _read(Path(images), models[0])
    return align(sides[0], sides[1], x_BCHW.to(kind), tolerance=tolerance)


def _noise(model: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, model.in_chans, *model.preprocess.image_size, generator=generator, dtype=torch.float64)


def _read(folder: Path, model: Any) -> Tensor:
    transform = eval_transform(model.preprocess)
    files = list_pictures([folder])[:MOST_PICTURES]
    return torch.stack(
        [transform(decode(file.read_bytes(), name=str(file), channels=model.in_chans)) for file in files]
    )
