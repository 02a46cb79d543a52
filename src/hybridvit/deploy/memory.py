"""Peak memory, measured where nothing else is: in a process of its own, `python -m hybridvit.deploy.memory '{...}'`.

Linux counts a process's largest resident memory, and resets it when asked to. So building an engine, which for most takes more
memory than running it, stays out of the figure.
"""

import ctypes
import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from hybridvit.deploy import steps

CLEAR_PEAK = "5"  # proc(5), /proc/PID/clear_refs


def peak_mib(name: str, *, engine_name: str, batch_size: int, image_size: tuple[int, int], train: bool) -> float | None:
    """What a model and two of its batches (or training steps) take at most, in MiB; None where it cannot be measured."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    arguments = {
        "name": name,
        "engine_name": engine_name,
        "batch_size": batch_size,
        "image_size": image_size,
        "train": train,
    }
    command = [sys.executable, "-m", "hybridvit.deploy.memory", json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _measure(*, name: str, engine_name: str, batch_size: int, image_size: tuple[int, int], train: bool) -> float:
    images = steps.random_images(batch_size, image_size)
    before = _resident_mib("VmRSS")
    model: Any = steps.create(name, image_size)
    step = steps.step(model, images, engine_name=engine_name, train=train)
    del model
    step()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what building has left over
    Path("/proc/self/clear_refs").write_text(CLEAR_PEAK)
    step()
    return _resident_mib("VmHWM") - before


def _resident_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) / 1024


if __name__ == "__main__":
    print(_measure(**json.loads(sys.argv[1])))
