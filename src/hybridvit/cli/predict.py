"""hybridvit predict: what a checkpoint sees in pictures."""

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

from hybridvit.cli.options import add
from hybridvit.output import to_json

HELP = (
    "Say what CHECKPOINT sees in pictures, or in all pictures below a folder, or of a list, zip or tar file, or of a saved "
    "Hugging Face data set. Exit code 1: some could not be read; they are reported, the others are predicted."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "checkpoint", metavar="CHECKPOINT", type=Path, help="a .safetensors file of `hybridvit train`")
    add(
        parser,
        "pictures",
        metavar="IMAGE|DIR|FILE",
        nargs="+",
        type=Path,
        help="files; folders, lists, .zip, .tar of them",
    )
    add(parser, "--root", "--top-k", "--batch")
    add(parser, "--workers", default=0)
    add(parser, "--device")
    engines, how = (
        ("eager", "fused", "compiled", "onnx", "openvino"),
        "fused is faster on CPUs; the rest builds a graph",
    )
    add(parser, "--engine", choices=engines, default="eager", help=how)
    form = parser.add_mutually_exclusive_group()
    add(form, "--json")
    add(form, "--csv", action="store_true", help="print CSV, one line per picture and class")


def run(args: argparse.Namespace) -> int:
    from hybridvit.cli.progress import progress
    from hybridvit.data.loader import eval_loader
    from hybridvit.data.unlabelled import open_unlabelled
    from hybridvit.evaluate.metrics import most_probable, softmax
    from hybridvit.evaluate.run import evaluate
    from hybridvit.runtime import pick_device
    from hybridvit.weights.load import load

    model: Any = load(args.checkpoint, device=pick_device(args.device))
    names = model.label_names or [f"class {k}" for k in range(model.num_classes)]
    pictures = open_unlabelled(args.pictures, names, root=args.root)
    loader = eval_loader(pictures, preprocess=model.preprocess, batch_size=args.batch, workers=args.workers)
    engine = model
    if args.engine != "eager":
        from hybridvit.deploy import engines

        size, batch = model.preprocess.image_size, min(args.batch, len(pictures))
        engine = engines.build(args.engine, model, image_size=size, batch_size=batch)
    with progress("predicting", total=len(pictures)) as advance:
        result = evaluate(engine, loader, on_batch=advance)

    probabilities = softmax(result.logits)
    predictions = [
        {
            "path": path,
            "predictions": [{"class": names[k], "probability": float(row[k])} for k in most_probable(row, args.top_k)],
        }
        for path, row in zip(result.paths, probabilities, strict=True)
    ]
    if args.json:
        print(to_json({"pictures": predictions, "broken": result.broken}))
    elif args.csv:
        _print_csv(predictions)
    else:
        _print_table(predictions)
    for path in result.broken:
        print(_why_broken(path, model.preprocess.in_chans), file=sys.stderr)
    return 1 if result.broken else 0


def _print_csv(predictions: list[dict[str, Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "rank", "class", "probability"])
    for picture in predictions:
        for rank, found in enumerate(picture["predictions"], start=1):
            writer.writerow([picture["path"], rank, found["class"], f"{found['probability']:.6f}"])


def _print_table(predictions: list[dict[str, Any]]) -> None:
    from hybridvit.cli.table import show

    rows = [
        [
            picture["path"],
            *(f"{found['class']}  {100 * found['probability']:.1f} %" for found in picture["predictions"]),
        ]
        for picture in predictions
    ]
    if rows:
        show(["picture", *("first" if k == 1 else f"{k}." for k in range(1, len(rows[0])))], rows)


def _why_broken(name: str, channels: int) -> str:
    """The message of a second try: the loader only counts."""
    from hybridvit.data.decode import decode
    from hybridvit.data.opening import read_named
    from hybridvit.errors import DataError

    try:
        decode(read_named(name), name=name, channels=channels)
    except (DataError, OSError) as error:
        return f"Left out: {error}"
    return f"Left out: {name} could not be read at the first try."
