"""One training step of a backbone on a dense picture: peak memory and processor time, each in a process of its own.

    python benchmarks/dense.py [NAME ...]

Prints a line per model: MiB above what the process held before the step, and seconds of one thread in the second step.
Seconds are processor time, which another job on the machine disturbs less than it disturbs the clock.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

SIZE = (800, 1344)


def resident_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) / 1024


def measure(name: str) -> dict[str, float]:
    import timm
    import torch

    import hybridvit  # noqa: F401  its names are timm's, too

    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = timm.create_model(name, features_only=True).to(memory_format=torch.channels_last).train()
    images = torch.randn(1, 3, *SIZE).contiguous(memory_format=torch.channels_last)
    before = resident_mib("VmRSS")
    for _ in range(2):
        model.zero_grad()
        start = time.process_time()
        sum(map_BCHW.square().mean() for map_BCHW in model(images)).backward()
        seconds = time.process_time() - start
    return {"mib": resident_mib("VmHWM") - before, "seconds": seconds}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2])))
    else:
        for name in sys.argv[1:] or ["cmt_s", "cvt_13", "resnet50"]:
            command = [sys.executable, __file__, "--measure", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(f"{name}: {found['mib']:.0f} MiB, {found['seconds']:.1f} s")
