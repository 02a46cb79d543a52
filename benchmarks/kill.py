"""Kill training at random moments, over every way that pictures come in and that a run is done, and compare the ends bit by bit.

    python benchmarks/kill.py [--kills 6] [--kinds folder list zip tar ...] [--seed 0]

Each kind is a small run of cvt_nano on 48 pictures of noise: once through, and once with `kills` SIGKILLs to all its processes,
each a random while after a new state was seen, and resumed. Equal are the last state with weights, optimiser, EMA and random
numbers, and the metrics. `full disk` gives the run a file system of 64 MB that is filled in mid-run and emptied again, in
`read-only disk` its folder takes no new files for a while (chattr +i); both need root. There the run may stop, in words and
without a traceback, or is killed, and is resumed when the disk is well again. Prints JSON.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

SMALL = (
    "schedule.epochs=6",
    "schedule.warmup_epochs=1",
    "global_batch=8",
    "device_batch=4",
    "preprocess.image_size=[32, 32]",
    "mix.mixup=0.8",
    "model.drop_path_rate=0.2",
    "run.eval_epochs=3",
    "run.save_minutes=0",
)
KINDS: dict[str, tuple[str, ...]] = {
    "folder": (),
    "list": (),
    "zip": (),
    "tar": (),
    "two ranks": (),
    "EMA": ("ema.decay=0.9",),
    "float16": ("precision=float16",),
    "full disk": (),
    "read-only disk": (),
}


def write_pictures(root: Path) -> dict[str, Path]:
    """The same pictures as a folder, lists, a zip and a tar file."""
    rng = np.random.default_rng(0)
    folder = root / "folder"
    for part, count in (("train", 12), ("test", 4)):
        lines = []
        for number, label in enumerate("abcd"):
            (folder / part / label).mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(40 * number, 40 * number + 95, (20, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / label / f"{k:03d}.png")
                lines.append(f"{part}/{label}/{k:03d}.png {label}")
        (folder / f"{part}.txt").write_text("\n".join(lines))
    lists = root / "list"
    shutil.copytree(folder, lists / "pictures")
    for part in ("train", "test"):
        text = (folder / f"{part}.txt").read_text()
        (lists / f"{part}.txt").write_text("\n".join(f"pictures/{line}" for line in text.split("\n")))
        (folder / f"{part}.txt").unlink()
    files = sorted(folder.rglob("*.png"))
    with zipfile.ZipFile(root / "set.zip", "w") as zipped, tarfile.open(root / "set.tar", "w") as tar:
        for path in files:
            zipped.write(path, path.relative_to(folder))
            tar.add(path, str(path.relative_to(folder)))
    return {"folder": folder, "list": lists, "zip": root / "set.zip", "tar": root / "set.tar"}


def command(kind: str, data: Path, out: Path, *, resume: bool) -> list[str]:
    words = ["-m", "hybridvit", "train", "digits", "--data", str(data), "--out", str(out), "--device", "cpu"]
    words += ["--set", *SMALL, *KINDS[kind], f"run.workers={random.randrange(3)}"]
    words += ["--resume"] if resume else []
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"] if kind == "two ranks" else []
    return [sys.executable, *torchrun, *words]


def start(kind: str, data: Path, out: Path, *, resume: bool, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            command(kind, data, out, resume=resume), stdout=file, stderr=file, start_new_session=True
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def states(out: Path) -> list[Path]:
    return sorted(out.glob("state-*.pt"))


def result(out: Path) -> tuple[Any, bytes]:
    state = torch.load(states(out)[-1], weights_only=True)
    state.get("recipe", {}).pop("run", None)
    return state, (out / "metrics.jsonl").read_bytes()


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def wait_for_state(process: subprocess.Popen[bytes], out: Path) -> None:
    """Until a state is saved that was not there, or the process ends."""
    before = states(out)
    while states(out) == before and process.poll() is None:
        time.sleep(0.002)


def killed(kind: str, data: Path, out: Path, kills: int, log: Path) -> int:
    """Kill and resume; the number of kills that met a running process."""
    done = 0
    for attempt in itertools.count():
        process = start(kind, data, out, resume=attempt > 0, log=log)
        if done < kills:
            for _ in range(random.randrange(3)):
                wait_for_state(process, out)
            time.sleep(random.uniform(0, 0.05))
        if done < kills and process.poll() is None:
            kill(process)
            done += 1
        elif process.wait() == 0:
            return done
        else:
            raise RuntimeError(f"{kind}: a run ended with {process.returncode}: {log.read_text()[-2000:]}")
    raise AssertionError


def spoil(kind: str, data: Path, disk: Path, kills: int, log: Path) -> int:
    """The disk fills up, or its folder takes no new files; then the run is killed if it still lives; and at last it goes on."""
    out, done = disk / "run", 0
    for attempt in range(kills):
        process = start(kind, data, out, resume=attempt > 0 and out.exists(), log=log)
        wait_for_state(process, out)
        if kind == "full disk":
            with (disk / "filler").open("wb", buffering=0) as filler:
                try:
                    while True:
                        filler.write(bytes(4096))
                except OSError:
                    pass
        else:
            subprocess.run(["chattr", "+i", out], check=True)
        try:
            process.wait(random.uniform(0, 3))
        except subprocess.TimeoutExpired:
            kill(process)
            done += 1
        if kind == "full disk":
            (disk / "filler").unlink()
        else:
            subprocess.run(["chattr", "-i", out], check=True)
    assert start(kind, data, out, resume=True, log=log).wait() == 0, log.read_text()[-2000:]
    return done


def run(kind: str, data: Path, root: Path, kills: int) -> dict[str, Any]:
    began, folder = time.time(), root / f"run-{kind.replace(' ', '-')}"
    folder.mkdir()
    log = folder / "log"
    once = start(kind, data, folder / "whole", resume=False, log=log)
    assert once.wait() == 0, log.read_text()[-2000:]
    if "disk" in kind:
        disk = folder / "disk"
        disk.mkdir()
        if kind == "full disk":
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", disk], check=True)
        try:
            done = spoil(kind, data, disk, kills, log)
            equal = same(result(disk / "run"), result(folder / "whole"))
        finally:
            if kind == "full disk":
                subprocess.run(["umount", "--lazy", disk], check=True)
    else:
        done = killed(kind, data, folder / "run", kills, log)
        equal = same(result(folder / "run"), result(folder / "whole"))
    return {
        "kills": done,
        "equal bits": equal,
        "tracebacks": log.read_text().count("Traceback"),
        "minutes": round((time.time() - began) / 60, 1),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    random.seed(args.seed)
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        data = write_pictures(root)
        for kind in args.kinds:
            found[kind] = run(kind, data.get(kind, data["folder"]), root, args.kills)
            print(kind, found[kind], file=sys.stderr, flush=True)
    print(json.dumps({"seed": args.seed, **found}, indent=2))
    sys.exit(not all(each["equal bits"] and not each["tracebacks"] for each in found.values()))


if __name__ == "__main__":
    main()
