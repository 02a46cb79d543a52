"""FlyEgle's grid in small: cmt_nano on all and on a fifth of the handwritten digits, with several seeds.

    python benchmarks/ablations.py [--out runs/ablations] [--epochs 40] [--seeds 0 1 2] [--share 5]

Each seed is one call of `hybridvit sweep digits`; an interrupted call goes on where it stopped. Judged once, after the last
epoch, so that no row profits from a lucky epoch. --share 5 trains on every fifth picture of a class, as FlyEgle trained
on a fifth of ImageNet. Writes and prints a table: mean top-1 over the seeds, lowest and highest.
"""

import argparse
import json
import statistics
from pathlib import Path

from hybridvit.cli.main import main as hybridvit
from hybridvit.data.digits import write_digits


def write_share(digits: Path, share: int) -> Path:
    """A folder of two lists: every `share`-th training picture of a class, and all test pictures."""
    out = digits.parent / f"digits-1-of-{share}"
    out.mkdir(exist_ok=True)
    for part, step in (("train", share), ("test", 1)):
        paths = [path for folder in sorted((digits / part).iterdir()) for path in sorted(folder.iterdir())[::step]]
        lines = [f"{path.relative_to(digits)} {path.parent.name}" for path in paths]
        (out / f"{part}.txt").write_text("\n".join(lines) + "\n")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--share", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    digits = args.out / "digits"
    if not digits.is_dir():
        write_digits(digits)
    data = write_share(digits, args.share) if args.share > 1 else digits
    rows: dict[str, list[float]] = {}
    for seed in args.seeds:
        out = args.out / f"share-{args.share}-epochs-{args.epochs}-seed-{seed}"
        length = [f"schedule.epochs={args.epochs}", f"run.eval_epochs={args.epochs}", "run.workers=1"]
        words = ["sweep", "digits", "--data", str(data), "--root", str(digits), "--out", str(out), "--device", "cpu"]
        if status := hybridvit([*words, "--set", f"seed={seed}", *length]):
            raise SystemExit(status)
        for row in json.loads((out / "table.json").read_text()):
            rows.setdefault(row["row"], []).append(row["last_top1"])
    lines = [
        f"| {name} | {statistics.mean(top1):.2f} | {min(top1):.2f} | {max(top1):.2f} |" for name, top1 in rows.items()
    ]
    table = "\n".join(["| row | mean top-1 | lowest | highest |", "| --- | --- | --- | --- |", *lines])
    (args.out / f"share-{args.share}-epochs-{args.epochs}.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
