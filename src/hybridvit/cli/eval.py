"""hybridvit eval: how good a checkpoint is on a folder of pictures."""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridvit.cli.options import add, refuse
from hybridvit.output import to_json

if TYPE_CHECKING:
    from hybridvit.data.source import Counts
    from hybridvit.evaluation.logits import Result

HELP = """Evaluate CHECKPOINT on DIR/test/CLASS/*.jpg (or val, or DIR/CLASS/*.jpg), with the preprocessing it was made
for. Every picture counts once. Without --data the files are logits that --logits saved (.npz): all is recomputed from
them, of several files from the mean probability. Exit code 1: some pictures could not be read; they are named and in
no figure."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = "weights, several with --average; or .npz"
    add(parser, "files", metavar="CHECKPOINT|LOGITS", type=Path, nargs="+", help=what)
    add(parser, "--data", "--root", "--columns", "--val-split")
    how = "of several checkpoints: one mean model, or the mean probability"
    add(parser, "--average", choices=["weights", "answers"], help=how)
    add(parser, "--crops", choices=(1, 5))
    add(parser, "--flip", action="store_true", help="also the mirror image, averaged")
    add(parser, "--real", metavar="FILE", type=Path, help="ImageNet's reassessed labels, real.json: another top-1")
    add(parser, "--logits", metavar="FILE", type=Path, help="also keep every picture's logits, as .npz")
    add(parser, "--report", metavar="FILE", type=Path, help="also draw curves, confusion and mistakes, as .png")
    add(parser, "--batch", "--workers", "--device", "--json")


def run(args: argparse.Namespace) -> int:
    from hybridvit.errors import ConfigError
    from hybridvit.evaluation.logits import save_logits

    if args.data is None:
        return _score(args)

    from hybridvit.cli.progress import progress
    from hybridvit.cli.table import show
    from hybridvit.deploy.formats import is_export
    from hybridvit.deploy.opening import load
    from hybridvit.evaluation.answers import evaluate_corruptions, evaluate_files
    from hybridvit.evaluation.imagenet import corruption_folders
    from hybridvit.runtime import pick_device
    from hybridvit.weights.load import read_checkpoint

    models = [load(file) if is_export(file) else file for file in args.files]
    if len(args.files) == 1:
        first: Any = models[0] if is_export(args.files[0]) else read_checkpoint(args.files[0])
        if first.task != "classification":
            return _judge(args)
    if (len(args.files) > 1) != (args.average is not None):
        raise ConfigError("--average weights, or --average answers, goes with several checkpoints, and they with it.")
    how = {name: getattr(args, name) for name in ("average", "crops", "flip", "workers")}
    how |= {"batch_size": args.batch, "device": pick_device(args.device)}
    data = {name: getattr(args, name) for name in ("data", "root", "columns", "val_split")}
    folders = corruption_folders(args.data)
    if folders:
        refuse(args, "--logits", "--report", "--real", because="this is ImageNet-C's tree of many sets of pictures")
        with progress("evaluating") as advance:
            found = evaluate_corruptions(models, folders, on_batch=advance, **how)
        print(to_json(found.to_dict())) if args.json else show(*found.describe())
        return 1 if found.broken else 0
    with progress("evaluating") as advance:
        judged = evaluate_files(models, **data, on_batch=advance, **how)
    if judged.reordered and not args.json:
        print(f"The classes of {judged.data} come in another order than the model's; they are matched by name.")
    if args.logits:
        save_logits(args.logits, judged.result)
    about = {"checkpoint": ", ".join(map(str, args.files)), "average": args.average, "data": judged.data}
    about |= {"views": judged.views, "logits": args.logits, "report": args.report}
    code = _show(judged.result, about, args, judged.counts)
    if args.report:  # after the figures, which no picture that is gone may cost
        from hybridvit.evaluation.drawing import figure
        from hybridvit.render.figures import save_png
        from hybridvit.report.history import read_history

        history = read_history(args.files[0].parent / "metrics.jsonl")
        save_png(args.report, figure(judged.result, title=f"{judged.architecture} on {judged.data}", history=history))
    return code


def _judge(args: argparse.Namespace) -> int:
    """Of other tasks, the task's own figures."""
    from hybridvit.cli.progress import progress
    from hybridvit.cli.table import show
    from hybridvit.runtime import pick_device
    from hybridvit.tasks.evaluation import judge

    refuse(args, "--flip", "--real", "--logits", "--report", because="this is no classifier")
    how = {"root": args.root, "val_split": args.val_split, "batch_size": args.batch, "workers": args.workers}
    with progress("evaluating") as advance:
        found = judge(args.files[0], args.data, device=pick_device(args.device), on_batch=advance, **how)
    if args.json:
        about = {"checkpoint": str(args.files[0]), "data": found.data}
        print(to_json({**about, **found.result.to_dict(), "broken": found.broken}))
    else:
        show(f"{args.files[0]} on {found.data}", *found.describe())
    return 1 if found.broken else 0


def _score(args: argparse.Namespace) -> int:
    from hybridvit.errors import ConfigError
    from hybridvit.evaluation.logits import load_logits
    from hybridvit.evaluation.views import ensemble

    if any(file.suffix != ".npz" for file in args.files):
        raise ConfigError("--data DIR is missing: the folder with test/CLASS/*.jpg (or val, or CLASS/*.jpg).")
    refuse(args, "--root", "--average", "--flip", "--logits", "--report", because="saved logits are taken as they are")
    names = [str(path) for path in args.files]
    results = [load_logits(path) for path in args.files]
    return _show(ensemble(results, names) if len(results) > 1 else results[0], {"logits": ", ".join(names)}, args)


def _show(result: "Result", about: dict[str, object], args: argparse.Namespace, counts: "Counts | None" = None) -> int:
    """Print all metrics, for people or for programs. Returns the exit code."""
    from hybridvit.cli.table import show
    from hybridvit.evaluation.imagenet import read_real, real_accuracy
    from hybridvit.evaluation.words import describe

    real = real_accuracy(result, read_real(args.real)) if args.real else None
    about = {key: str(value) for key, value in about.items() if value is not None}
    if args.json:
        everything = {**about, **result.metrics.to_dict(), "calibration_error": result.calibration_error}
        everything |= {"counts": counts.to_dict()} if counts else {}
        everything |= {"real": dataclasses.asdict(real)} if real else {}
        print(to_json({**everything, "broken": result.broken}))
    else:
        show(*describe(result, about, real=real, counts=counts))
    return 1 if result.broken else 0
