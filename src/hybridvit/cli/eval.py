"""hybridvit eval: how good a checkpoint is on a folder of pictures."""

import argparse
from pathlib import Path
from typing import Any

from hybridvit.cli.options import add, chosen, refuse
from hybridvit.errors import ConfigError
from hybridvit.output import to_json

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
    from hybridvit.cli.progress import progress
    from hybridvit.cli.table import show, tell
    from hybridvit.evaluation.answers import evaluate_corruptions
    from hybridvit.evaluation.imagenet import corruption_folders, read_real, real_accuracy
    from hybridvit.evaluation.logits import save_logits
    from hybridvit.inference.evaluation import evaluate_models, open_models
    from hybridvit.runtime import pick_device

    if args.data is None:
        return _score(args)
    models, names = open_models(args.files, device=pick_device(args.device))
    if models[0].task != "classification":
        refuse(args, "--flip", "--real", "--logits", "--report", because="this is no classifier")
    how = chosen(args, "average", "crops", "flip", "batch_size", "workers")
    folders = corruption_folders(args.data)
    if folders:
        refuse(args, "--logits", "--report", "--real", because="this is ImageNet-C's tree of many sets of pictures")
        with progress("evaluating") as advance:
            table = evaluate_corruptions(models, names, folders, on_batch=advance, **how)
        tell(table, as_json=args.json)
        return 1 if table.broken else 0
    how |= chosen(args, "data", "root", "columns", "val_split")
    with progress("evaluating") as advance:
        found = evaluate_models(models, names, on_batch=advance, **how)
    if found.reordered and not args.json:
        print(f"The classes of {found.data} come in another order than the model's; they are matched by name.")
    result: Any = found.result
    if args.logits:
        save_logits(args.logits, result)
    about = {name: str(value) for name, value in chosen(args, "logits", "report").items() if value}
    real = real_accuracy(result, read_real(args.real)) if args.real else None
    print(to_json({**about, **found.to_dict(real=real)})) if args.json else show(*found.describe(about, real=real))
    if args.report:  # after the figures, which no picture that is gone may cost
        from hybridvit.evaluation.drawing import figure
        from hybridvit.render.figures import save_png
        from hybridvit.report.history import read_history

        history = read_history(args.files[0].parent / "metrics.jsonl")
        save_png(args.report, figure(result, title=f"{found.architecture} on {found.data}", history=history))
    return 1 if found.broken else 0


def _score(args: argparse.Namespace) -> int:
    from hybridvit.cli.table import show
    from hybridvit.evaluation.imagenet import read_real, real_accuracy
    from hybridvit.evaluation.logits import load_logits
    from hybridvit.evaluation.views import ensemble
    from hybridvit.evaluation.words import describe

    if any(file.suffix != ".npz" for file in args.files):
        raise ConfigError("--data DIR is missing: the folder with test/CLASS/*.jpg (or val, or CLASS/*.jpg).")
    refuse(args, "--root", "--average", "--flip", "--logits", "--report", because="saved logits are taken as they are")
    names = [str(path) for path in args.files]
    result = ensemble([load_logits(path) for path in args.files], names)
    real = real_accuracy(result, read_real(args.real)) if args.real else None
    about = {"logits": ", ".join(names)}
    found = {**about, **result.to_dict()} | ({"real": vars(real)} if real else {})
    print(to_json(found)) if args.json else show(*describe(result, about, real=real))
    return 1 if result.broken else 0
