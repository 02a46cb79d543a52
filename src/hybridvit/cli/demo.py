"""hybridvit demo: from nothing to a trained, judged and kept model, by the commands anyone would type."""

import argparse
import shlex
import shutil
import sys
import time
from pathlib import Path

from hybridvit.cli.options import add

HELP = """Write scikit-learn's 1,797 handwritten digits as a folder of pictures, then train a small hybrid on the
first 898, evaluate it on the other 899, predict a few and draw a report: about two minutes on two CPU cores. Every
step is a command that works on your own folder, too, and is shown."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "--model", choices=["cvt_nano", "cmt_nano"], default="cvt_nano", help="what is trained")
    add(parser, "--out", metavar="DIR", type=Path, help="where all goes (default: runs/demo-MODEL-SEED)")
    add(parser, "--seed", "--set")


def run(args: argparse.Namespace) -> int:
    from hybridvit.cli.main import main
    from hybridvit.data.digits import write_digits

    began = time.monotonic()
    program = "hybridvit" if shutil.which("hybridvit") else sys.argv[0]  # `make demo` leaves it in .venv/bin
    out = args.out or Path("runs") / f"demo-{args.model}-{args.seed}"
    data = write_digits(out / "digits")
    print(f"1,797 handwritten digits are now pictures in {data}: 898 to learn from, 899 to be judged on.")
    run_folder, logits, report = out / "run", out / "logits.npz", out / "report.png"
    weights = run_folder / "last.safetensors"
    train = ["train", "digits", "--data", data, "--out", run_folder]
    train += ["--set", f"model.name={args.model}", f"seed={args.seed}", *args.set]
    if (run_folder / "metrics.jsonl").exists():
        train.append("--resume")  # an interrupted demo goes on, a finished one is shown again
    some_pictures = sorted((data / "test").glob("*/*.png"))[::100]
    for step in (
        train,
        ["eval", weights, "--data", data, "--logits", logits, "--report", report],
        ["predict", weights, *some_pictures],
    ):
        words = [str(word) for word in step]
        print(f"\n$ {program} {shlex.join(words)}", flush=True)
        code = main(words)
        if code:
            return code
    print(
        f"""
Made in {time.monotonic() - began:.0f} s:
  {weights}  the model: weights, class names, preprocessing and recipe in one file
  {report}  curves, confusion, predictions and every mistake
  {logits}  what it said about each test picture

Worth typing next:
  {program} predict {weights} YOUR_PICTURE.png
  {program} train finetune_small --data YOUR_FOLDER     # with train/CLASS/*.jpg and test/CLASS/*.jpg
  {program} models"""
    )
    return 0
