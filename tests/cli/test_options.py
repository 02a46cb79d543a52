"""cli/options.py: every number has a range, and what would do nothing is refused."""

import argparse
import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import hybridvit
from hybridvit.cli.main import COMMANDS, Parser, main
from hybridvit.cli.options import Number
from hybridvit.cli.train import resume_command
from hybridvit.config import load_recipe

NO_NUMBER = ["", "x", "nan", "inf", "-inf", "1e999", "9" * 20, "9" * 6000, "-1e-9", "0x10", "1,5", "None"]
OTHER_PROGRAMS = {"--data-binary", "--logdir", "--project", "--nproc-per-node"}
"""Options of curl, tensorboard, trackio and torchrun."""


def options() -> Iterator[tuple[str, argparse.Action]]:
    for command in COMMANDS:
        parser = Parser(prog=f"hybridvit {command}")
        importlib.import_module(f"hybridvit.cli.{command}").add_arguments(parser)
        for action in parser._actions:
            yield command, action


def numbers() -> list[tuple[str, argparse.Action]]:
    return [(command, action) for command, action in options() if isinstance(action.type, Number)]


def test_every_option_of_every_command_that_takes_a_number_has_a_range_and_a_help() -> None:
    for command, action in options():
        assert action.type not in (int, float), f"{command}: {action.option_strings}"
        assert action.help or action.dest == "action", f"{command}: {action.dest}"


@pytest.mark.parametrize(
    ("command", "action"), numbers(), ids=lambda value: value if isinstance(value, str) else value.dest
)
def test_a_number_outside_its_range_is_one_sentence_and_exit_code_2(
    command: str, action: argparse.Action, capsys: pytest.CaptureFixture[str]
) -> None:
    number = action.type
    assert isinstance(number, Number)
    outside = [f"{number.least - 1:g}" if number.least else "-1", f"{number.most * 2:.0f}"]
    outside += [text for text in NO_NUMBER if number.kind is int or text != "-1e-9" or number.least == 0]
    for text in outside:
        values = [text] * (action.nargs if isinstance(action.nargs, int) else 1)
        with pytest.raises(SystemExit) as exit_:
            main(
                [command, f"{action.option_strings[0]}={values[0]}"]
                if len(values) == 1
                else [command, action.option_strings[0], *values]
            )
        err = capsys.readouterr().err
        assert exit_.value.code == 2
        assert err.count("\n") == 1
        assert action.option_strings[0] in err


@pytest.mark.parametrize(("command", "action"), numbers(), ids=lambda v: v if isinstance(v, str) else v.dest)
def test_the_ends_of_a_range_are_taken(command: str, action: argparse.Action) -> None:
    number = action.type
    assert isinstance(number, Number)
    assert number(f"{number.least:.10g}") == number.least
    if number.kind is int:
        assert number(str(int(number.most))) == number.most
    else:
        with pytest.raises(argparse.ArgumentTypeError):
            number(f"{number.most:.0f}")


@pytest.mark.parametrize(
    "words",
    [
        "score a.npz --flip",
        "eval a.safetensors",
        "inspect a.pth --images DIR",
        "inspect a.pth b.pth --weights raw",
        "convert a.pth b.pth --to huawei --new-head",
        "download cvt_13 --num-classes 3",
        "recipes --gpus 8",
        "recipes import",
    ],
)
def test_an_option_that_would_do_nothing_is_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    assert capsys.readouterr().err.startswith("ConfigError: ")


def test_messages_name_only_options_and_fields_that_there_are() -> None:
    """Advice such as `--set data.broken_limit=0.1` must be possible to follow."""
    known = {spelling for _, action in options() for spelling in action.option_strings} | {"--version"}
    package = Path(hybridvit.__file__).parent
    texts = [
        (path, node.value)
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    named = {(word, path) for path, text in texts for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)}
    assert {word for word, _ in named} >= {"--root", "--val-split", "--columns"}
    assert {(word, path.name) for word, path in named if word not in known | OTHER_PROGRAMS} == set()
    fields = {word for _, text in texts for word in re.findall(r"(?<!\.)\b(?:data|run|schedule)\.[a-z]+_[a-z_]+", text)}
    assert fields >= {"data.broken_limit", "data.max_pixels"}
    recipe = load_recipe("digits")
    assert {
        field for field in fields if not hasattr(getattr(recipe, field.split(".")[0]), field.split(".")[1])
    } == set()


def test_the_printed_resume_command_survives_a_shell() -> None:
    import shlex

    out = "runs/it's mine; rm *"
    words = ["my recipe.yaml", "--data", "my pictures", "--out", out, "--set", "model.args={'a': 1}", "--device", "cpu"]
    parser = Parser()
    from hybridvit.cli import train

    train.add_arguments(parser)
    printed = resume_command(parser.parse_args(words), Path(out))
    assert shlex.split(printed) == ["hybridvit", "train", *words, "--resume"]
