"""cli/main.py: the table of commands."""

import importlib
import subprocess
import sys
import time

import pytest

from hybridvit.cli import main as cli
from hybridvit.cli.main import COMMANDS, main


def present() -> list[str]:
    return [name for name in COMMANDS if (cli.FOLDER / f"{name.replace('-', '_')}.py").exists()]


@pytest.mark.parametrize("name", ["", *present()])
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


@pytest.mark.parametrize("name", present())
def test_every_command_offers_the_three_names(name: str) -> None:
    module = importlib.import_module(f"hybridvit.cli.{name.replace('-', '_')}")
    assert module.HELP
    assert callable(module.add_arguments)
    assert callable(module.run)


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["trian"])
    assert exit_.value.code == 2
    assert "trian" in capsys.readouterr().err


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
