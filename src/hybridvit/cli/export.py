"""hybridvit export: a checkpoint as a file for another runtime."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

HELP = (
    "Write CHECKPOINT for onnxruntime, OpenVINO, torch.export or AOTInductor, load the file in that runtime and compare its "
    "answers with the plain model's. The file takes batches of any size and carries preprocessing and class names. "
    "Exit code 1: the file was written, and its answers differ."
)
FORMATS = ("onnx", "openvino", "pt2", "aoti")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="a .safetensors file of `hybridvit train`")
    parser.add_argument("--to", choices=FORMATS, required=True, help="the format")
    parser.add_argument("--out", metavar="FILE", type=Path, help="where to (default: beside the checkpoint)")
    parser.add_argument(
        "--image-size", metavar="N", nargs="+", type=int, help="pixels, or rows and columns (default: the checkpoint's)"
    )
    parser.add_argument("--dynamic-size", action="store_true", help="also take other sizes, of at least 64 pixels")
    parser.add_argument(
        "--precision", choices=("fp32", "fp16", "bf16", "int8"), default="fp32", help="of the weights (default: fp32)"
    )
    parser.add_argument(
        "--pictures",
        metavar="PATH",
        nargs="+",
        type=Path,
        help="pictures, folders or archives of them to compare on, and to calibrate int8 on (default: smooth noise)",
    )
    parser.add_argument(
        "--max-pictures", metavar="N", type=int, default=256, help="use so many of them, evenly chosen (default: 256)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    from dataclasses import asdict, replace

    from hybridvit.deploy import engines, export, verify
    from hybridvit.errors import ConfigError
    from hybridvit.weights import checkpoint

    export.check_precision(args.to, args.precision)
    if args.precision == "int8" and (args.pictures is None or args.dynamic_size):
        raise ConfigError(
            "int8 is calibrated on real pictures of one size: give --pictures DIR, and no --dynamic-size."
        )
    if args.image_size and len(args.image_size) > 2:
        raise ConfigError(f"--image-size takes one or two numbers, found {len(args.image_size)}.")
    model: Any = checkpoint.load(args.checkpoint)
    size = args.image_size or list(model.preprocess.image_size)
    rows_columns = (size[0], size[-1])
    model.preprocess = replace(model.preprocess, image_size=rows_columns)
    out = args.out or args.checkpoint.with_suffix(export.SUFFIXES[args.to])
    batches, labels = _pictures(args, model)

    result: dict[str, Any] = {"file": str(out), "pictures": "given" if args.pictures else "noise"}
    lines = [f"{out}: {args.to}, {args.precision}, batches of any size, "]
    lines[0] += f"{'any size of at least 64' if args.dynamic_size else f'{rows_columns[0]} x {rows_columns[1]}'} pixels"
    if args.precision == "int8":
        from hybridvit.deploy.quantize import quantise

        _, quantised = quantise(model, out, batches, to=args.to, labels=labels)
        result["quantised"] = asdict(quantised)
        lines.append(f"everything in int8 {quantised.all_int8}")
        if quantised.in_float:
            lines.append(f"left in float: {', '.join(quantised.in_float)}")
    else:
        export.export(model, out, to=args.to, any_size=args.dynamic_size, precision=args.precision)
    report = verify.verify(model, engines.open_export(out), batches, precision=args.precision, labels=labels)
    result["report"] = report.to_dict()
    lines.append(f"{'' if args.pictures else 'on noise (--pictures compares on pictures): '}{report}")
    print(json.dumps(result, indent=2) if args.json else "\n".join(lines))
    return 0 if report.passed else 1


def _pictures(args: argparse.Namespace, model: Any) -> tuple[list["Tensor"], "Tensor | None"]:
    """Batches as the model takes them, the last one shorter; labels, if every picture's folder is called as a class."""
    import torch

    from hybridvit.data.loader import eval_loader
    from hybridvit.data.loose import open_loose
    from hybridvit.data.split import Subset

    if args.pictures is None:
        rng = torch.Generator().manual_seed(0)
        coarse = torch.randn(5, model.in_chans, 8, 8, generator=rng)
        smooth = torch.nn.functional.interpolate(coarse, size=model.preprocess.image_size, mode="bicubic")
        return list(smooth.split(4)), None
    pictures = open_loose(args.pictures)
    count = min(len(pictures), args.max_pictures)
    chosen = Subset(pictures, [k * len(pictures) // count for k in range(count)])
    read = [batch for batch in eval_loader(chosen, preprocess=model.preprocess, batch_size=32) if len(batch.images)]
    folders = [Path(chosen.name(index)).parent.name for batch in read for index in batch.indices.tolist()]
    numbers = {name: number for number, name in enumerate(model.label_names or [])}
    labels = torch.tensor([numbers[folder] for folder in folders]) if numbers.keys() >= set(folders) else None
    return [batch.images for batch in read], labels
