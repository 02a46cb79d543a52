"""ray_job.py WEIGHTS PICTURES OUT: a small cluster on this machine, on which jobs and actors are killed; print what happened.

The cluster lives in this process and ends with it. Jobs are processes of the command line, which find it by RAY_ADDRESS.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import ray

weights, pictures, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])


def job() -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "hybridvit", "embed", weights, pictures, "--out", str(out), "--piece-size", "4"]
    words += ["--batch", "3", "--device", "cpu", "--on", "ray"]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)


def pieces() -> int:
    return len(list(out.glob("*.parquet")))


def wait_for(process: subprocess.Popen[str], more: int) -> None:
    expected = pieces() + more
    while pieces() < expected and process.poll() is None:
        time.sleep(0.002)


def actors() -> list[psutil.Process]:
    mine = psutil.Process().children(recursive=True)
    return [each for each in mine if "MapWorker" in " ".join(each.cmdline()) and each.status() != psutil.STATUS_ZOMBIE]


context = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
os.environ["RAY_ADDRESS"] = context.address_info["address"]
try:
    first = job()
    wait_for(first, 2)
    first.kill()
    first.communicate()
    print("job killed at", pieces())
    second = job()
    wait_for(second, 2)
    for actor in actors():
        actor.kill()
        print("actor killed at", pieces())
    print(second.communicate()[1])
    print("exit code", second.returncode)
finally:
    ray.shutdown()
