"""The command line: a table of commands, each a module with HELP, add_arguments and run.

A module is imported only for its own command, and torch only inside run(), so that --help answers at once.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hybridvit.allocator import keep_memory
from hybridvit.errors import HybridVitError

COMMANDS = {
    "demo": "train and judge a small model on handwritten digits, in minutes",
    "train": "train a model on a folder of pictures",
    "data": "check a data set for what would spoil results",
    "eval": "measure a checkpoint's accuracy",
    "score": "recompute the accuracy from saved logits",
    "compare": "set runs side by side",
    "predict": "name what is in pictures",
    "explain": "draw what a model looks at",
    "report": "judge a model on one page, with pictures",
    "serve": "try a model in the browser",
    "models": "list the models",
    "recipes": "list the training recipes",
    "recipe": "import a recipe of the original repositories",
    "sweep": "train a grid of recipes and print its table",
    "inspect": "say what a weights file is",
    "convert": "turn a published weights file into ours",
    "export": "write a model for onnxruntime, OpenVINO or torch.export",
    "bench": "measure how fast models are",
    "export-weights": "write our weights in a published layout",
    "download": "fetch published weights",
    "align": "compare two models layer by layer",
}
FOLDER = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 2 for an error that the user can mend, 130 for Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = next((word for word in words if not word.startswith("-")), None)
    parser = argparse.ArgumentParser(
        prog="hybridvit", description="CMT and CvT, the models in which convolutions meet vision transformers."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command, summary in COMMANDS.items():
        module = command.replace("-", "_")
        if not (FOLDER / f"{module}.py").exists():
            continue
        subparser = commands.add_parser(command, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if command == name:
            loaded = importlib.import_module(f"hybridvit.cli.{module}")
            subparser.description = loaded.HELP
            loaded.add_arguments(subparser)
            subparser.set_defaults(run=loaded.run)
    arguments = parser.parse_args(words)
    keep_memory()
    try:
        return arguments.run(arguments)
    except HybridVitError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` has seen enough; without this the interpreter complains when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
