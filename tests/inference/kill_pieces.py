"""kill_pieces.py WEIGHTS PICTURES OUT KILLS: features of pictures, with kill -9 at chosen and at random moments; print the kills.

First a life each ends at its first, second, third ... flush to the disk, which is before or after a file gets its name; then
lives end at random moments. After every death whatever a reader would take must be whole.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import torch

import hybridvit
from hybridvit import files

weights, pictures, out, kills = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(1)
FLUSHES = 4


def live(last_flush: int) -> None:
    flushes = 0
    sync = files.sync

    def counted(path: Path) -> None:
        nonlocal flushes
        flushes += 1
        if flushes == last_flush:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(path)

    files.sync = counted
    hybridvit.embed(weights, pictures, out=out, piece_size=4, batch_size=3)


def pieces() -> list[Path]:
    return sorted(out.glob("*.parquet"))


def runs(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


hybridvit.embed(weights, pictures, out=out.with_name("warm"))  # imports everything once
done = 0
while True:
    child = os.fork()
    if child == 0:
        live(last_flush=done + 1 if done < FLUSHES else 0)
        os._exit(0)
    if FLUSHES <= done < kills:
        before = len(pieces())
        while len(pieces()) == before and runs(child):
            time.sleep(0.001)
        time.sleep(random.uniform(0.0, 0.04))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    names = [name for path in pieces() for name in pq.read_table(path)["path"].to_pylist()]
    if len(names) != len(set(names)):
        sys.exit("a picture is there twice")
    if os.WIFSIGNALED(status):
        done += 1
    elif status == 0:
        break
    else:
        sys.exit("a life failed")
print(done)
