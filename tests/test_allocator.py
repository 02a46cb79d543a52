"""allocator.py: memory that is given back stays, so that the next tensor does not wait for the system to clear it."""

import platform
import subprocess
import sys

import pytest

ASK = """
import random, resource, sys, threading, torch
import hybridvit

kept = sys.argv[1] == "kept" and hybridvit.keep_memory()
assert kept == (sys.argv[1] == "kept")
draw = random.Random(0)

def some_tensors():
    tensors = [torch.ones(draw.randint(1, 12) * 2**20) for _ in range(draw.randint(1, 4))]

def work():
    for _ in range(60):
        some_tensors()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        some_tensors()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=work)
(thread.start(), thread.join()) if sys.argv[2] == "thread" else work()
"""


def page_faults(*words: str) -> int:
    """Pages that the system had to provide for twenty times some tensors of 4 to 48 MB."""
    result = subprocess.run([sys.executable, "-c", ASK, *words], capture_output=True, text=True, check=True)
    return int(result.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library decides for itself")
@pytest.mark.parametrize("where", ["main", "thread"])
def test_kept_memory_is_not_cleared_again(where: str) -> None:
    assert page_faults("kept", where) < page_faults("given back", where) / 10


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from hybridvit import allocator

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not allocator.keep_memory()
