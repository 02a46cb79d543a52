"""The command line: a table of commands, each a module with HELP, add_arguments and run.

A module is imported only for its own command, and torch only inside run(), so that --help answers at once.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

from hybridvit.errors import HybridVitError

COMMANDS = {
    "train": ("hybridvit.cli.train", "train a model on a folder of pictures"),
    "recipes": ("hybridvit.cli.recipes", "list the training recipes"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 2 for an error that the user can mend, 130 for Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = next((word for word in words if not word.startswith("-")), None)
    parser = argparse.ArgumentParser(
        prog="hybridvit", description="CMT and CvT, the models in which convolutions meet vision transformers."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command, (module, summary) in COMMANDS.items():
        subparser = commands.add_parser(command, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if command == name:
            loaded = importlib.import_module(module)
            subparser.description = loaded.HELP
            loaded.add_arguments(subparser)
            subparser.set_defaults(run=loaded.run)
    arguments = parser.parse_args(words)
    try:
        return arguments.run(arguments)
    except HybridVitError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
