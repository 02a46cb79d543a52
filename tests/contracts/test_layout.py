"""Promises about the tree: short files, no drawer for odds and ends, nothing that ties it to one place."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "hybridvit"
LINES = 400
LONGER = {
    "models/cmt.py": "one model, read top to bottom",
}
"""Files over the limit, and why."""

# Taken apart, so that this file does not hold what it looks for.
REGISTRY = re.compile(
    "|".join([r"py" + r"pi\.", r"python" + r"hosted", r"--(extra-)?index" + r"-url", r"find" + r"-links"])
)


def tracked_files() -> list[Path]:
    """What is in the repository; in an unpacked archive without git, everything that is no build product."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        return [path for path in ROOT.rglob("*") if path.is_file() and not any(p.startswith(".") for p in path.parts)]
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_is_longer_than_can_be_read_at_once() -> None:
    long = {
        str(path.relative_to(SOURCE)): lines
        for path in SOURCE.rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > LINES
    }
    assert long.keys() <= LONGER.keys(), f"Split them, or say in LONGER why not: {long}"


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    assert not [path for path in SOURCE.rglob("*.py") if path.stem in ("utils", "util", "helpers", "common", "misc")]


def test_every_file_says_what_it_is() -> None:
    import ast

    silent = []
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        if not ast.get_docstring(tree):
            silent.append(str(path.relative_to(SOURCE)))
    assert not silent


def test_no_package_registry_is_named() -> None:
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in REGISTRY.finditer(text)]
    assert not found


@pytest.mark.parametrize(
    "name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "SECURITY.md", "Makefile", "constraints.txt"]
)
def test_a_newcomer_finds_the_usual_files(name: str) -> None:
    assert (ROOT / name).stat().st_size > 0


def test_every_extra_that_a_message_or_a_page_names_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    files = [*SOURCE.rglob("*.py"), *ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    extra = re.compile(r"(?:hybridvit|-e \"\.)\[([a-z]+)\]")
    named = {name for path in files for name in extra.findall(path.read_text(encoding="utf-8"))}
    assert named
    assert named <= extras.keys()
