"""hybridvit eval: how good a checkpoint is on a folder of pictures."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridvit.evaluate.logits import Result

HELP = (
    "Evaluate CHECKPOINT on DIR/test/CLASS/*.jpg (or val, or DIR/CLASS/*.jpg), with the preprocessing it was made for. "
    "Every picture counts once. Exit code 1: some pictures could not be read; they are named and in no figure."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="a .safetensors file of `hybridvit train`")
    parser.add_argument(
        "--data", metavar="DIR", type=Path, required=True, help="folder with test/ or class folders, list, .zip ..."
    )
    parser.add_argument(
        "--root", metavar="DIR", type=Path, help="where the paths of a list file start (default: beside it)"
    )
    parser.add_argument(
        "--val-split", metavar="SHARE", type=float, default=0.0, help="judge on the share that training held out"
    )
    parser.add_argument("--logits", metavar="FILE", type=Path, help="also keep every picture's logits, as .npz")
    parser.add_argument("--report", metavar="FILE", type=Path, help="also draw curves, confusion and mistakes, as .png")
    parser.add_argument("--batch", metavar="N", type=int, default=64, help="pictures at a time (default: 64)")
    parser.add_argument("--workers", metavar="N", type=int, default=2, help="processes that decode (default: 2)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: the best there is)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    from hybridvit.cli.progress import progress
    from hybridvit.data.loader import eval_loader
    from hybridvit.data.opening import open_test
    from hybridvit.evaluate.classes import align
    from hybridvit.evaluate.logits import save_logits
    from hybridvit.evaluate.run import evaluate
    from hybridvit.runtime import pick_device
    from hybridvit.weights import checkpoint

    model: Any = checkpoint.load(args.checkpoint, device=pick_device(args.device))
    data_name, found = open_test(args.data, root=args.root, val_split=args.val_split)
    source = align(
        found, model.label_names, num_classes=model.num_classes, model_name=str(args.checkpoint), data_name=data_name
    )
    if source is not found and not args.json:
        print(f"The classes of {data_name} come in another order than the model's; they are matched by name.")
    loader = eval_loader(source, preprocess=model.preprocess, batch_size=args.batch, workers=args.workers)
    with progress("evaluating", total=len(source)) as advance:
        result = evaluate(model, loader, on_batch=advance)
    if args.logits:
        save_logits(args.logits, result)
    if args.report:
        from hybridvit.evaluate.report import draw_report, read_history

        history = read_history(args.checkpoint.parent / "metrics.jsonl")
        draw_report(args.report, result, title=f"{model.architecture} on {data_name}", history=history)
    return show_result(
        result,
        {"checkpoint": str(args.checkpoint), "data": data_name, "logits": args.logits, "report": args.report},
        as_json=args.json,
    )


def show_result(result: "Result", about: dict[str, object], *, as_json: bool) -> int:
    """Print all metrics, for people or for programs. Returns the exit code."""
    from hybridvit.cli.table import show

    metrics = result.metrics
    about = {key: str(value) for key, value in about.items() if value is not None}
    if as_json:
        print(json.dumps({**about, **metrics.to_dict(), "broken": result.broken}, indent=2, ensure_ascii=False))
        return 1 if result.broken else 0
    names = [c.name for c in metrics.classes]
    figures: list[tuple[str, object]] = [
        *about.items(),
        ("pictures", metrics.images),
        ("top-1", f"{metrics.top1:.2f} %  ({metrics.correct} of {metrics.images})"),
        *([("top-5", f"{metrics.top5:.2f} %")] if metrics.top5 is not None else []),
        ("loss", f"{metrics.loss:.4f}"),
    ]
    width = max(len(name) for name, _ in figures)
    print("\n".join(f"{name:{width}}  {value}" for name, value in figures) + "\n")
    show(
        ["class", "pictures", "recall %", "precision %"],
        [[c.name, c.images, _two_digits(c.recall), _two_digits(c.precision)] for c in metrics.classes],
    )
    print()
    if len(names) <= 20:
        show(
            ["true \\ found", *names],
            [[name, *row] for name, row in zip(names, metrics.confusion, strict=True)],
            title="Confusion matrix: a row is a true class, a column what the model said.",
        )
    else:
        pairs = [(n, i, j) for i, row in enumerate(metrics.confusion) for j, n in enumerate(row) if n and i != j]
        pairs.sort(key=lambda pair: -pair[0])
        show(
            ["pictures", "true class", "found as"],
            [[n, names[i], names[j]] for n, i, j in pairs[:20]],
            title=f"The most frequent of {len(pairs)} confusions (the whole matrix: --json).",
        )
    if result.broken:
        print(f"\n{len(result.broken)} pictures could not be read and are in no figure:")
        print("\n".join(f"  {path}" for path in result.broken))
    return 1 if result.broken else 0


def _two_digits(percent: float | None) -> str | None:
    return None if percent is None else f"{percent:.2f}"
