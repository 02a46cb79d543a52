"""The command line answers at once: no help text, and no import of the package, brings torch in."""

import subprocess
import sys

import pytest

from hybridvit.cli.main import ALIASES, COMMANDS

HEAVY = ("torch", "torchvision", "timm", "transformers", "matplotlib", "PIL", "numpy")
ASK = """
import contextlib, io, sys
from hybridvit.cli.main import main

with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
    main(sys.argv[1:])
assert "usage: hybridvit" in text.getvalue(), text.getvalue()
print(*(name for name in sys.modules if "." not in name))
"""


def modules_after(code: str, *arguments: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds at the end of `code`."""
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize("command", [None, *COMMANDS, *ALIASES], ids=lambda command: command or "hybridvit")
def test_help_does_not_import_torch(command: str | None) -> None:
    loaded = modules_after(ASK, *([command] if command else []), "--help")
    assert not loaded & set(HEAVY)


def test_importing_the_package_does_not_import_torch() -> None:
    loaded = modules_after('import sys, hybridvit; print(*(name for name in sys.modules if "." not in name))')
    assert not loaded & set(HEAVY)
