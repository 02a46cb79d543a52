"""What a model sees in pictures, in one call: as rows in memory, or, of any number of pictures, as Parquet files in a folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

import torch
from torch import nn

from hybridvit.errors import ConfigError
from hybridvit.inference.job import Written, write_pieces
from hybridvit.inference.pictures import Pictures
from hybridvit.inference.predictor import Give, Predictor
from hybridvit.inference.rows import Predictions


@overload
def predict(
    model: nn.Module | str | Path | Predictor,
    pictures: Pictures,
    *,
    top_k: int = 3,
    give: Give = "predictions",
    engine: str = "eager",
    device: str | torch.device = "auto",
    batch_size: int = 64,
    workers: int = 0,
    root: Path | None = None,
    on_batch: Callable[[int, int], None] = ...,
    out: None = None,
) -> Predictions: ...
@overload
def predict(
    model: nn.Module | str | Path,
    pictures: str | Path | Sequence[str | Path],
    *,
    top_k: int = 3,
    give: Give = "predictions",
    engine: str = "eager",
    device: str | torch.device = "auto",
    batch_size: int = 64,
    workers: int = 0,
    root: Path | None = None,
    out: str | Path,
    **pieces: Any,
) -> Written: ...
def predict(
    model: Any,
    pictures: Any,
    *,
    top_k: int = 3,
    give: Give = "predictions",
    engine: str = "eager",
    device: str | torch.device = "auto",
    batch_size: int = 64,
    workers: int = 0,
    root: Path | None = None,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
    out: str | Path | None = None,
    **pieces: Any,
) -> Predictions | Written:
    """What a model sees in pictures, a row for each.

        hybridvit.predict("best.safetensors", "cat.jpg")[0]
        hybridvit.predict(model, [picture, array, "folder/dog.png"], top_k=1).to_frame()
        hybridvit.predict("best.safetensors", "millions/", out="predictions/")

    Args:
        model: a model from `hybridvit.load`, a weights file, a file of `hybridvit.export`, or a Predictor, whose options count.
        pictures: a path, bytes, a picture of Pillow's, a uint8 array (rows, columns, channels) or tensor (channels, rows,
            columns), or many of them; a folder, list, zip, tar or saved Hugging Face data set stands for all pictures in it.
        out: a folder for Parquet files, where the same call goes on after any interruption; of paths only, and no Predictor.
        pieces: with `out`, as job.write_pieces has them: piece_size, share, columns, launcher, on_progress.

    Other arguments: as Predictor and Predictor.stream have them.

    Raises: DataError where there is no picture; CheckpointError, ConfigError for the model. A picture that cannot be read is
        a row with `ok` False and the reason in `error`.
    """
    options: dict[str, Any] = {"top_k": top_k, "give": give, "engine": engine, "device": device}
    options["batch_size"] = batch_size
    if out is not None:
        if isinstance(model, Predictor):
            raise ConfigError("With out=, give the model or its file: workers make their own Predictor.")
        return write_pieces(model, pictures, out, workers=workers, root=root, **options, **pieces)
    if pieces:
        raise ConfigError(f"{', '.join(pieces)}: these are for a folder of pieces, out=DIR.")
    predictor = model if isinstance(model, Predictor) else Predictor(model, **options)
    return Predictions(predictor.stream(pictures, batch_size=batch_size, workers=workers, root=root, on_batch=on_batch))


def embed(model: nn.Module | str | Path, pictures: Any, **options: Any) -> Any:
    """The features of pictures below the classifier, pooled: `predict` with give="features", and otherwise the same.

    hybridvit.embed("best.safetensors", "pictures/", out="features/").to_frame()
    """
    return predict(model, pictures, give="features", **options)
