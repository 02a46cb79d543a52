"""The blocks of code in the documentation, and what is promised of them.

A comment in the line before a block says what a test does with it; without one, only its hybridvit commands are parsed.

    <!-- run -->    its commands are run, or its Python is executed; nothing may fail
    <!-- shows -->  a console: each command after "$ " is run, and the other lines must be in its output, in that order

Blocks that are indented instead of fenced have no mark; they are parsed where their first line is a command of ours.
In an output, a line "..." stands for any lines, and "..." at the end of a line for any rest.
"""

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
SHELLS = ("sh", "bash", "shell", "console")
OPERATORS = {"|", ">", ">>", "<", "&", "&&", "||", ";"}

_INDENTED = re.compile(r"(?:^|(?<=\n\n))(?:    [^\n]*(?:\n|$)|\n(?=    ))+")
_FENCED = re.compile(
    r"^(?P<indent> *)(?:<!-- (?P<mark>run|shows) -->\n(?P=indent))?```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block. `page` is relative to the repository; `line` is that of the fence or its mark."""

    page: str
    line: int
    language: str
    mark: str
    body: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """The words behind `hybridvit`, and the output shown below, if any."""

    words: list[str]
    output: list[str]
    place: str


def blocks() -> list[Block]:
    return [block for page in PAGES for block in _blocks_of(page)]


def _blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in _FENCED.finditer(text):
        indent = len(match["indent"])
        body = "\n".join(line[indent:] for line in match["body"].splitlines())
        line = text.count("\n", 0, match.start()) + 1
        yield Block(str(page.relative_to(ROOT)), line, match["language"], match["mark"] or "", body)
    without = _FENCED.sub(lambda match: "\n" * match.group().count("\n"), text)
    for match in _INDENTED.finditer(without):
        body = textwrap.dedent(match.group())
        language = "console" if body.startswith("$ ") else "sh" if body.startswith(("hybridvit ", "torchrun ")) else ""
        yield Block(str(page.relative_to(ROOT)), without.count("\n", 0, match.start()) + 1, language, "", body)


def commands(block: Block) -> list[Command]:
    """Every command line of ours in a block of shell, with the output that follows it in a console."""
    if block.language not in SHELLS:
        return []
    found: list[Command] = []
    is_ours = False
    lines = iter(block.body.splitlines())
    for line in lines:
        if block.language == "console" and not line.startswith("$ "):
            if is_ours:
                found[-1].output.append(line)
            continue
        while line.endswith("\\"):
            line = line[:-1] + next(lines)
        words = our_words(line.removeprefix("$ "))
        is_ours = words is not None
        if words is not None:
            found.append(Command(words, [], str(block)))
    return found


def our_words(line: str) -> list[str] | None:
    """What follows hybridvit, or -m hybridvit, up to a pipe or a redirection; None where another program is called."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    if "hybridvit" not in words:
        return None
    start = words.index("hybridvit")
    if start and words[start - 1] != "-m" and not all("=" in word for word in words[:start]):
        return None
    words = words[start + 1 :]
    stop = next((k for k, word in enumerate(words) if word in OPERATORS), len(words))
    return words[:stop]


def first_difference(shown: list[str], output: str) -> str | None:
    """The first line that the documentation shows and the output has not, behind the one before; None if there is none."""
    lines = iter([line.rstrip() for line in output.splitlines()])
    for wanted in shown:
        wanted = wanted.rstrip()
        if wanted in ("", "..."):
            continue
        fits = wanted.removesuffix("...").rstrip()
        is_prefix = wanted.endswith("...")
        if not any(line == wanted or (is_prefix and line.startswith(fits)) for line in lines):
            return wanted
    return None
