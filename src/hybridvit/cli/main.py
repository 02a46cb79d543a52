"""The command line: a table of commands, each a module with HELP, add_arguments and run.

A module is imported only for its own command, and torch only inside run(), so that --help answers at once.
"""

import argparse
import difflib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Never

from hybridvit import __version__
from hybridvit.allocator import keep_memory
from hybridvit.errors import HybridVitError

GROUPS = {
    "Begin here": {
        "demo": "train and evaluate a small model on handwritten digits, in minutes",
        "train": "train a model on a folder of pictures",
        "predict": "name what is in pictures",
    },
    "How good is it?": {
        "eval": "measure a checkpoint's accuracy, or recompute it from saved logits",
        "report": "evaluate a model on one page, with pictures; set training runs side by side",
        "explain": "draw what a model looks at",
    },
    "What to train on, and how": {
        "data": "check a data set for what would spoil results",
        "recipes": "list the training recipes; import one of the original repositories",
        "sweep": "train a grid of recipes and print its table",
    },
    "Models and their weights": {
        "models": "list the models and their published weights",
        "inspect": "say what a weights file is; compare two of them layer by layer",
        "convert": "published weights, by file or by name, become ours, and ours theirs",
    },
    "Use it elsewhere": {
        "embed": "features of pictures by the million, for search and clusters",
        "serve": "try a model in the browser",
        "export": "write a model for onnxruntime, OpenVINO or torch.export",
        "bench": "measure how fast models are",
        "push": "put a model on the Hugging Face hub, with a card",
    },
}
COMMANDS = {name: summary for group in GROUPS.values() for name, summary in group.items()}
ALIASES = {
    "score": "eval",
    "compare": "report",
    "recipe": "recipes",
    "align": "inspect",
    "download": "convert",
    "export-weights": "convert",
}
"""Earlier spellings, which take the same words as they did."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the whole usage."""

    def error(self, message: str) -> Never:
        self.exit(2, f"{self.prog}: {message}. `{self.prog} --help` lists what it takes.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 2 for an error that the user can mend, 130 for Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0].startswith("-"):
        return _without_command(words)
    name = ALIASES.get(words[0], words[0])
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, [*COMMANDS, *ALIASES], n=1)
        hint = f"; did you mean {near[0]!r}" if near else ""
        Parser(prog="hybridvit").error(f"no command is called {name!r}{hint}")
    command = importlib.import_module(f"hybridvit.cli.{name}")
    parser = Parser(prog=f"hybridvit {words[0]}", description=command.HELP)
    command.add_arguments(parser)
    arguments = parser.parse_intermixed_args(words[1:])
    keep_memory()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that its encoding cannot hold ends no command
    try:
        return command.run(arguments)
    except HybridVitError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` has seen enough; without this the interpreter complains when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _without_command(words: Sequence[str]) -> int:
    said = []
    for title, group in GROUPS.items():
        said.append("\n".join([f"{title}:", *(f"  {name:9}{summary}" for name, summary in group.items())]))
    earlier = ", ".join(f"{old} ({new})" for old, new in ALIASES.items())
    said.append(f"`hybridvit COMMAND --help` says more. Earlier spellings still work: {earlier}.")
    parser = Parser(
        prog="hybridvit",
        usage="hybridvit COMMAND ...",
        description="CMT and CvT, the models in which convolutions meet vision transformers.",
        epilog="\n\n".join(said),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.parse_args(words)
    parser.print_help()
    return 2
