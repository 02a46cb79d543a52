"""A checkpoint exported, opened again in its own runtime, and compared with the plain model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybridvit.data.loader import eval_loader
from hybridvit.data.readers.lists import SUFFIXES as SUFFIXES_OF_LISTS
from hybridvit.data.source import Counts
from hybridvit.data.split import Subset
from hybridvit.data.unlabelled import open_unlabelled
from hybridvit.deploy import engines, export, verify
from hybridvit.deploy.formats import SUFFIXES
from hybridvit.deploy.quantize import Quantised, quantise
from hybridvit.errors import ConfigError, DataError
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
    counts: Counts | None
    """Of the pictures that were given; None: on noise."""
    quantised: Quantised | None
    report: verify.Report

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"file": str(self.file), "pictures": "given" if self.counts else "noise"}
        found |= {"counts": self.counts.to_dict()} if self.counts else {}
        found |= {"quantised": asdict(self.quantised)} if self.quantised else {}
        return found | {"report": self.report.to_dict()}

    def __str__(self) -> str:
        size = "{} x {}".format(*self.image_size) if self.image_size else "any size of at least 64"
        lines = [f"{self.file}: {self.to}, {self.precision}, batches of any size, {size} pixels"]
        if self.quantised:
            lines.append(f"everything in int8 {self.quantised.all_int8}")
            if self.quantised.in_float:
                lines.append(f"left in float: {', '.join(self.quantised.in_float)}")
        if self.counts:
            lines.append(f"found: {self.counts}")
        hint = "" if self.counts else "on noise (--pictures compares on pictures): "
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
    batches, labels, counts = _noise(model) if pictures is None else _read(pictures, model, max_pictures)
    quantised = None
    if precision == "int8":
        sizes = [len(images) for images in batches]
        calibration, batches = (
            [images[::2] for images in batches],
            [images[1::2] for images in batches if len(images) > 1],
        )
        if not batches:
            raise ConfigError(
                "int8 is calibrated on half of the pictures and evaluated on the others: give at least 2."
            )
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
        counts=counts,
        quantised=quantised,
        report=report,
    )


def _noise(model: Any) -> tuple[list[Tensor], None, None]:
    rng = torch.Generator().manual_seed(0)
    coarse = torch.randn(5, model.in_chans, 8, 8, generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, size=model.preprocess.image_size, mode="bicubic")
    return list(smooth.split(4)), None, None


def _read(paths: Sequence[str | Path], model: Any, most: int) -> tuple[list[Tensor], Tensor | None, Counts]:
    """Batches as the model takes them, the last one shorter; labels, if every picture's folder is called as a class; counts.

    Lists and tar files may tell other labels than their folders do: theirs are not taken from folders' names.
    """
    pictures = open_unlabelled(paths)
    count = min(len(pictures), most)
    chosen = Subset(pictures, [k * len(pictures) // count for k in range(count)])
    read = [batch for batch in eval_loader(chosen, preprocess=model.preprocess, batch_size=32) if len(batch.images)]
    if not read:
        raise DataError(f"None of the {count} pictures could be read; the first is {chosen.name(0)}.")
    folders = [Path(chosen.name(index)).parent.name for batch in read for index in batch.indices.tolist()]
    numbers = {name: number for number, name in enumerate(model.label_names or [])}
    by_folder = all(Path(path).suffix.lower() not in (".tar", *SUFFIXES_OF_LISTS) for path in paths)
    known = by_folder and numbers.keys() >= set(folders)
    labels = torch.tensor([numbers[folder] for folder in folders]) if known else None
    return [batch.images for batch in read], labels, pictures.counts
