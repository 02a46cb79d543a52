"""A model behind one call: a batch of pictures in, a row for each out. It knows tasks by their protocol only."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hybridvit.config import Preprocess
from hybridvit.data.ahead import ahead
from hybridvit.data.decode import MAX_PIXELS, decode
from hybridvit.data.loader import eval_loader
from hybridvit.data.source import Source
from hybridvit.deploy import engines
from hybridvit.deploy.opening import load
from hybridvit.errors import ConfigError, DataError
from hybridvit.inference.pictures import Picture, Pictures, as_read, open_pictures
from hybridvit.inference.rows import Row
from hybridvit.runtime import in_eval_mode, pick_device
from hybridvit.tasks import find_task

Give = Literal["predictions", "logits", "features"]


class Predictor:
    """Made once, called with batches: `Predictor("best.safetensors")(["a.jpg", picture, data])`.

    A picture that cannot be read costs its own row only. Calls from several threads are safe where the model's are.
    """

    def __init__(
        self,
        model: nn.Module | str | Path,
        *,
        top_k: int = 3,
        give: Give = "predictions",
        engine: str = "eager",
        device: str | torch.device = "auto",
        batch_size: int = 64,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """
        Args:
            model: a model, a weights file, or a file that `hybridvit export` wrote.
            give: what a row holds: the task's predictions (top_k of them), the logits, or the features below the classifier.
            engine: of deploy.engines, for a model or a weights file.
            batch_size: the largest batch to come, which some engines are made for.
            max_pixels: larger pictures are refused from their header.

        Raises: CheckpointError for files that cannot be read; ConfigError for what the model, or this machine, does not offer.
        """
        network: Any = _open(model, device)
        about = network.metadata if isinstance(network, engines.Engine) else vars(network)
        self.preprocess: Preprocess = about.get("preprocess") or Preprocess.from_pretrained_cfg(
            about.get("pretrained_cfg") or network.pretrained_cfg
        )
        self.task: Any = find_task(about.get("task") or getattr(network, "task", None) or "classification")
        num_classes = about.get("num_classes") or getattr(network, "num_classes", None) or 0
        names: Any = about.get("label_names") or getattr(network, "label_names", None)
        self.class_names: Sequence[str] = tuple(names or (f"class {k}" for k in range(num_classes)))
        self.top_k, self.give, self.max_pixels = top_k, give, max_pixels
        if give == "features" and not hasattr(network, "forward_head"):
            raise ConfigError(f"{model} gives no features; take the checkpoint that it was exported from.")
        if give == "logits" and self.task.name not in ("classification", "multilabel"):
            raise ConfigError(f"Logits are for classifiers; {model} is made for {self.task.name}.")
        if engine != "eager":
            if isinstance(network, engines.Engine) or give == "features":
                raise ConfigError(f"The engine {engine} is for checkpoints, and gives no features.")
            network = engines.build(engine, network, image_size=self.preprocess.image_size, batch_size=batch_size)
        self.network: nn.Module = network
        self.transform = self.task.eval_transform(self.preprocess)

    def __call__(self, pictures: Sequence[Picture], names: Sequence[str] | None = None) -> list[Row]:
        """A row for each picture of a batch, in their order. `names`: what rows call them; paths are called so by default."""
        names = names or [str(p) if isinstance(p, str | Path) else f"picture {k}" for k, p in enumerate(pictures)]
        rows: list[Row | None] = []
        prepared = []
        for picture, name in zip(pictures, names, strict=True):
            try:
                prepared.append(self.prepare(as_read(picture, name=name), name=name))
                rows.append(None)
            except DataError as error:
                rows.append(Row(path=name, error=str(error)))
        good = [name for name, row in zip(names, rows, strict=True) if row is None]
        found = iter(self.answer(*map(list, zip(*prepared, strict=True)), names=good) if prepared else ())
        return [row or next(found) for row in rows]

    def stream(
        self,
        pictures: Pictures,
        *,
        batch_size: int = 64,
        workers: int = 0,
        root: Path | None = None,
        on_batch: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[Row]:
        """Rows of any number of pictures, in their order: the next batches are decoded while one is computed.

        Args:
            workers: processes that decode; 0 is a thread.
            root: where the paths of list files start.
            on_batch: called with how many are done, and of how many.

        Raises: DataError where there is no picture at all.
        """
        source = open_pictures(pictures, root=root)
        loader = eval_loader(
            source,
            preprocess=self.preprocess,
            transform=self.transform,
            collate=self.task.collate,
            batch_size=batch_size,
            workers=workers,
            max_pixels=self.max_pixels,
        )
        done = 0
        for batch in loader if workers else ahead(loader):
            indices, broken = batch.indices.tolist(), batch.broken.tolist()
            names = [source.name(index) for index in indices]
            rows = dict(zip(indices, self.compute(batch.images, batch.frames, names=names), strict=True))
            rows |= {index: self._refused(source, index) for index in broken}
            done += len(rows)
            on_batch(done, len(source))
            yield from (rows[index] for index in sorted(rows))

    def prepare(self, picture: Any, *, name: str) -> tuple[Tensor, Any]:
        """Bytes, or a picture of Pillow's, as the model takes it, and how predictions come back. Raises: DataError."""
        decoded = decode(picture, name=name, channels=self.preprocess.in_chans, max_pixels=self.max_pixels)
        return self.transform(decoded)

    def answer(self, images: Sequence[Tensor], frames: Sequence[Any], *, names: Sequence[str]) -> list[Row]:
        """Rows of what `prepare` gave."""
        return self.compute(self.task.collate(images, empty=torch.empty), frames, names=names)

    @torch.inference_mode()
    def compute(self, images_BCHW: Tensor, frames: Sequence[Any], *, names: Sequence[str]) -> list[Row]:
        """Rows of a batch. An answer that is no number is an error of its picture."""
        if not len(frames):
            return []
        outputs = self._run(images_BCHW)
        finite = [True] * len(names)
        if isinstance(outputs, Tensor):
            finite = outputs.flatten(1).isfinite().all(dim=1).tolist()
        values = outputs.float().cpu().numpy() if self.give == "features" else self.task.predictions(outputs, frames)
        return [
            Row(path=name, said=self._say(value))
            if good
            else Row(
                path=name, error=f"{name}: the model's answer is not finite. Its weights, or its type, are to blame."
            )
            for name, value, good in zip(names, values, finite, strict=True)
        ]

    @torch.inference_mode()
    def said(self, images_BCHW: Tensor, frames: Sequence[Any]) -> Sequence[Any]:
        """The task's predictions of a batch that `prepare` and the task's collate made: what its `row` and `draw` take."""
        predictions: Sequence[Any] = self.task.predictions(self._run(images_BCHW), frames)
        return predictions

    def _run(self, images_BCHW: Tensor) -> Any:
        parameter = next(self.network.parameters())
        x_BCHW = images_BCHW.to(parameter.device, parameter.dtype, memory_format=torch.channels_last)
        network: Any = self.network
        with in_eval_mode(network):
            if self.give == "features":
                return network.forward_head(network.forward_features(x_BCHW), pre_logits=True)
            return network(x_BCHW)

    def _say(self, value: Any) -> dict[str, Any]:
        if self.give != "predictions":
            return {self.give: value}
        return self.task.row(value, self.class_names, top_k=self.top_k)

    def _refused(self, source: Source, index: int) -> Row:
        """The message of a second try: loaders only count."""
        name = source.name(index)
        try:
            self.prepare(source.read(index), name=name)
        except (DataError, OSError) as error:
            return Row(path=name, error=str(error) if isinstance(error, DataError) else f"{name}: {error}")
        return Row(path=name, error=f"{name} could not be read at the first try.")


def _open(model: nn.Module | str | Path, device: str | torch.device) -> nn.Module:
    if isinstance(model, nn.Module):
        return model
    return load(model, device=device if isinstance(device, torch.device) else pick_device(device))
