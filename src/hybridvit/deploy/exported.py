"""A checkpoint exported, opened again in its own runtime, and compared with the plain model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybridvit.data.loader import eval_loader
from hybridvit.data.split import Subset
from hybridvit.data.unlabelled import open_unlabelled
from hybridvit.deploy import engines, export, verify
from hybridvit.deploy.formats import SUFFIXES
from hybridvit.deploy.quantize import Quantised, quantise
from hybridvit.errors import ConfigError
from hybridvit.models.position import Grid
from hybridvit.weights.load import load


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was written, and how its answers compare with the checkpoint's."""

    file: Path
    to: str
    precision: str
    image_size: Grid | None
    """None: any size."""
    on_noise: bool
    quantised: Quantised | None
    report: verify.Report

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"file": str(self.file), "pictures": "noise" if self.on_noise else "given"}
        found |= {"quantised": asdict(self.quantised)} if self.quantised else {}
        return found | {"report": self.report.to_dict()}

    def __str__(self) -> str:
        size = "{} x {}".format(*self.image_size) if self.image_size else "any size of at least 64"
        lines = [f"{self.file}: {self.to}, {self.precision}, batches of any size, {size} pixels"]
        if self.quantised:
            lines.append(f"everything in int8 {self.quantised.all_int8}")
            if self.quantised.in_float:
                lines.append(f"left in float: {', '.join(self.quantised.in_float)}")
        hint = "on noise (--pictures compares on pictures): " if self.on_noise else ""
        return "\n".join([*lines, f"{hint}{self.report}"])


def export_file(
    file: str | Path,
    out: str | Path | None = None,
    *,
    to: str | None = None,
    precision: str = "fp32",
    image_size: Grid | None = None,
    any_size: bool = False,
    pictures: Sequence[str | Path] | None = None,
    max_pictures: int = 256,
) -> Exported:
    """Export a checkpoint, by default beside it, and compare the file's answers on pictures (default: on smooth noise).

    Raises: ConfigError for what the format does not offer; CheckpointError, DataError for what cannot be read.
    """
    if out is None and to is None:
        raise ConfigError("Say where to write, or in which format: --out FILE or --to FORMAT.")
    out = Path(out) if out else Path(file).with_suffix(SUFFIXES[to or ""])
    to = export.check_path(out, to)
    export.check_precision(to, precision)
    if precision == "int8" and (pictures is None or any_size):
        raise ConfigError(
            "int8 is calibrated on real pictures of one size: give --pictures DIR, and no --dynamic-size."
        )
    model: Any = load(file)
    size = image_size or model.preprocess.image_size
    model.preprocess = replace(model.preprocess, image_size=size)
    batches, labels = _noise(model) if pictures is None else _read(pictures, model, max_pictures)
    quantised = None
    if precision == "int8":
        sizes = [len(images) for images in batches]
        calibration, batches = (
            [images[::2] for images in batches],
            [images[1::2] for images in batches if len(images) > 1],
        )
        if not batches:
            raise ConfigError("int8 is calibrated on half of the pictures and judged on the others: give at least 2.")
        labels = None if labels is None else torch.cat([few[1::2] for few in labels.split(sizes)])
        _, quantised = quantise(model, out, calibration, held_out=batches, to=to, labels=labels)
    else:
        export.export(model, out, to=to, any_size=any_size, precision=precision)
    report = verify.verify(model, engines.open_export(out), batches, precision=precision, labels=labels)
    return Exported(
        file=out,
        to=to,
        precision=precision,
        image_size=None if any_size else size,
        on_noise=pictures is None,
        quantised=quantised,
        report=report,
    )


def _noise(model: Any) -> tuple[list[Tensor], None]:
    rng = torch.Generator().manual_seed(0)
    coarse = torch.randn(5, model.in_chans, 8, 8, generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, size=model.preprocess.image_size, mode="bicubic")
    return list(smooth.split(4)), None


def _read(paths: Sequence[str | Path], model: Any, most: int) -> tuple[list[Tensor], Tensor | None]:
    """Batches as the model takes them, the last one shorter; labels, if every picture's folder is called as a class."""
    pictures = open_unlabelled(paths)
    count = min(len(pictures), most)
    chosen = Subset(pictures, [k * len(pictures) // count for k in range(count)])
    read = [batch for batch in eval_loader(chosen, preprocess=model.preprocess, batch_size=32) if len(batch.images)]
    folders = [Path(chosen.name(index)).parent.name for batch in read for index in batch.indices.tolist()]
    numbers = {name: number for number, name in enumerate(model.label_names or [])}
    labels = torch.tensor([numbers[folder] for folder in folders]) if numbers.keys() >= set(folders) else None
    return [batch.images for batch in read], labels
