"""cli/main.py: the table of commands."""

import importlib
import subprocess
import sys
import time

import pytest

from hybridvit.cli.main import ALIASES, COMMANDS, GROUPS, main


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_answers_at_once_and_without_torch(name: str) -> None:
    code = (
        "import sys; from hybridvit.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    words = [name, "--help"] if name else ["--help"]
    fastest = 9.0
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        fastest = min(fastest, time.perf_counter() - start)
        assert done.returncode == 0, f"{name} --help imports torch or numpy, or fails: {done.stderr}"
        assert "usage: hybridvit" in done.stdout
    assert fastest < 0.6  # 0.3 s on a quiet machine


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_offers_the_three_names(name: str) -> None:
    module = importlib.import_module(f"hybridvit.cli.{name}")
    assert module.HELP
    assert callable(module.add_arguments)
    assert callable(module.run)


def test_help_shows_all_commands_and_first_the_three_of_a_newcomer(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    places = [out.index(f"\n  {name} ") for name in COMMANDS]
    assert places == sorted(places)
    assert list(next(iter(GROUPS.values()))) == ["demo", "train", "predict"]


def test_without_a_command_the_overview_is_shown_and_the_exit_code_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: hybridvit COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        "score one.npz two.npz --real real.json --json",
        "compare run other --out page.html --json",
        "recipe import cvt.yaml TRAIN.LR 0.1 --gpus 4 --out ours.yaml",
        "align a.pth b.pth --images DIR --dtype float32 --tolerance 1e-3 --json",
        "download cvt_13 --from file.pth --out mine.safetensors",
        "export-weights mine.safetensors --to microsoft theirs.pth",
    ],
)
def test_earlier_spellings_are_understood_as_before(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, *rest = words.split()
    module = importlib.import_module(f"hybridvit.cli.{ALIASES[name]}")
    taken = []
    monkeypatch.setattr(module, "run", lambda args: taken.append(vars(args)) or 0)
    assert main([name, *rest]) == 0
    values = str(taken)
    assert not [word for word in rest if not word.startswith("--") and word not in values and word != "1e-3"]


def test_an_unknown_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["trian"])
    assert exit_.value.code == 2
    assert "no command is called 'trian'; did you mean 'train'." in capsys.readouterr().err


def test_recipes_lists_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    names = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert {"digits", "finetune_small", "cvt_13", "cmt_ti"} <= set(names)


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    from hybridvit.cli import recipes

    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "run", interrupt)
    assert main(["recipes"]) == 130
