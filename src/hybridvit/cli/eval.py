"""hybridvit eval: how good a checkpoint is on a folder of pictures."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridvit.data.source import Source
    from hybridvit.evaluate.logits import Result

HELP = (
    "Evaluate CHECKPOINT on DIR/test/CLASS/*.jpg (or val, or DIR/CLASS/*.jpg), with the preprocessing it was made for. "
    "Every picture counts once. Exit code 1: some pictures could not be read; they are named and in no figure."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoints", metavar="CHECKPOINT", type=Path, nargs="+", help="a weights file; several: --average"
    )
    parser.add_argument(
        "--data", metavar="DIR", type=Path, required=True, help="folder with test/ or class folders, list, .zip ..."
    )
    parser.add_argument(
        "--root", metavar="DIR", type=Path, help="where the paths of a list file start (default: beside it)"
    )
    parser.add_argument(
        "--val-split", metavar="SHARE", type=float, default=0.0, help="judge on the share that training held out"
    )
    parser.add_argument(
        "--average",
        choices=["weights", "answers"],
        help="of several checkpoints: one mean model, or the mean probability",
    )
    parser.add_argument("--crops", type=int, choices=[1, 5], default=1, help="5: also the corners, averaged")
    parser.add_argument("--flip", action="store_true", help="also the mirror image, averaged")
    add_real(parser)
    parser.add_argument("--logits", metavar="FILE", type=Path, help="also keep every picture's logits, as .npz")
    parser.add_argument("--report", metavar="FILE", type=Path, help="also draw curves, confusion and mistakes, as .png")
    parser.add_argument("--batch", metavar="N", type=int, default=64, help="pictures at a time (default: 64)")
    parser.add_argument("--workers", metavar="N", type=int, default=2, help="processes that decode (default: 2)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: the best there is)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_real(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--real", metavar="FILE", type=Path, help="ImageNet's reassessed labels, real.json: another top-1"
    )


def run(args: argparse.Namespace) -> int:
    from hybridvit.data.opening import open_test
    from hybridvit.errors import ConfigError
    from hybridvit.evaluate.imagenet import corruption_folders
    from hybridvit.evaluate.logits import save_logits
    from hybridvit.evaluate.views import average_weights
    from hybridvit.runtime import pick_device
    from hybridvit.weights import checkpoint

    names = [str(path) for path in args.checkpoints]
    if (len(names) > 1) != (args.average is not None):
        raise ConfigError("--average weights, or --average answers, goes with several checkpoints, and they with it.")
    models: list[Any] = [checkpoint.load(path, device=pick_device(args.device)) for path in args.checkpoints]
    if args.average == "weights":
        models, names = [average_weights(models, names)], [f"the mean of {', '.join(names)}"]
    corruptions = corruption_folders(args.data)
    if corruptions:
        return _run_corruptions(args, models, names, corruptions)
    data_name, source = open_test(args.data, root=args.root, val_split=args.val_split)
    result = _answers(args, models, names, source, data_name)
    if args.logits:
        save_logits(args.logits, result)
    if args.report:
        from hybridvit.evaluate.report import draw_report, read_history

        history = read_history(args.checkpoints[0].parent / "metrics.jsonl")
        draw_report(args.report, result, title=f"{models[0].architecture} on {data_name}", history=history)
    checkpoints = ", ".join(map(str, args.checkpoints))
    about = {"checkpoint": checkpoints, "average": args.average, "data": data_name, "views": _views(args)}
    return show_result(
        result, about | {"logits": args.logits, "report": args.report}, real=args.real, as_json=args.json
    )


def _answers(
    args: argparse.Namespace, models: "list[Any]", names: list[str], found: "Source", data_name: str
) -> "Result":
    """What the models say, averaged, about one set of pictures."""
    from hybridvit.cli.progress import progress
    from hybridvit.data.loader import eval_loader
    from hybridvit.evaluate.classes import Relabelled, align
    from hybridvit.evaluate.imagenet import restrict
    from hybridvit.evaluate.run import evaluate
    from hybridvit.evaluate.views import ensemble, view_transform

    results = []
    for model, name in zip(models, names, strict=True):
        source = align(found, model.label_names, num_classes=model.num_classes, model_name=name, data_name=data_name)
        if source is not found and not args.json:
            print(f"The classes of {data_name} come in another order than the model's; they are matched by name.")
        several = view_transform(model.preprocess, crops=args.crops, flip=args.flip) if _views(args) else None
        loader = eval_loader(
            source, preprocess=model.preprocess, transform=several, batch_size=args.batch, workers=args.workers
        )
        with progress("evaluating", total=len(source)) as advance:
            result = evaluate(model, loader, on_batch=advance)
        if isinstance(source, Relabelled) and len(source.places) < model.num_classes:
            result = restrict(result, source.places)
        results.append(result)
    return ensemble(results, names) if len(results) > 1 else results[0]


def _run_corruptions(
    args: argparse.Namespace, models: "list[Any]", names: list[str], folders: dict[str, dict[int, Path]]
) -> int:
    """ImageNet-C: top-1 errors by corruption and severity, and their mean against AlexNet's."""
    from hybridvit.cli.table import show
    from hybridvit.data.folder import read_folder
    from hybridvit.errors import ConfigError
    from hybridvit.evaluate.imagenet import ALEXNET_ERRORS, corruption_errors, mean_corruption_error

    if args.logits or args.report or args.real:
        raise ConfigError(
            "--logits, --report and --real are for one set of pictures; this is ImageNet-C's tree of many."
        )
    errors: dict[str, list[float]] = {}
    num_broken = 0
    for name, by_severity in folders.items():
        for folder in by_severity.values():
            result = _answers(args, models, names, read_folder(folder), str(folder))
            errors.setdefault(name, []).append(100 - result.metrics.top1)
            num_broken += len(result.broken)
    corruptions = corruption_errors(errors)
    mce = mean_corruption_error(corruptions)
    missing = sorted(ALEXNET_ERRORS.keys() - errors.keys())
    if args.json:
        found = [dataclasses.asdict(corruption) for corruption in corruptions]
        print(json.dumps({"mce": mce, "corruptions": found, "missing": missing, "broken": num_broken}, indent=2))
        return 1 if num_broken else 0
    rows = [[c.name, *(f"{error:.2f}" for error in c.errors), f"{c.relative:.2f}"] for c in corruptions]
    show(["corruption", "1", "2", "3", "4", "5", "of AlexNet's"], rows, title="Top-1 errors in percent, by severity")
    print(f"\nmean corruption error  {mce:.2f} %  over {len(corruptions)} corruptions")
    if missing:
        print(f"Published figures are over all {len(ALEXNET_ERRORS)}; missing here: {', '.join(missing)}")
    if num_broken:
        print(f"{num_broken} pictures could not be read and are in no figure.")
    return 1 if num_broken else 0


def _views(args: argparse.Namespace) -> str | None:
    """What is averaged for each picture, in words; None for the one view that belongs to the weights."""
    words = ["5 crops"] if args.crops == 5 else []
    words += ["mirror image"] if args.flip else []
    return ", ".join(words) or None


def show_result(result: "Result", about: dict[str, object], *, as_json: bool, real: Path | None = None) -> int:
    """Print all metrics, for people or for programs. Returns the exit code."""
    from hybridvit.cli.table import show
    from hybridvit.evaluate.imagenet import read_real, real_accuracy

    metrics = result.metrics
    reassessed = real_accuracy(result, read_real(real)) if real else None
    about = {key: str(value) for key, value in about.items() if value is not None}
    if as_json:
        everything = {**about, **metrics.to_dict(), "calibration_error": result.calibration_error}
        everything |= {"real": dataclasses.asdict(reassessed)} if reassessed else {}
        print(json.dumps({**everything, "broken": result.broken}, indent=2, ensure_ascii=False))
        return 1 if result.broken else 0
    names = [c.name for c in metrics.classes]
    figures: list[tuple[str, object]] = [
        *about.items(),
        ("pictures", metrics.images),
        ("top-1", f"{metrics.top1:.2f} %  ({metrics.correct} of {metrics.images})"),
        *([("top-5", f"{metrics.top5:.2f} %")] if metrics.top5 is not None else []),
        *([("ReaL", f"{reassessed.top1:.2f} %  (of {reassessed.images})")] if reassessed else []),
        ("loss", f"{metrics.loss:.4f}"),
        ("ECE", f"{result.calibration_error:.2f} %"),
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
