"""What the documentation says is so: commands parse, marked ones run, links lead somewhere, figures agree with their files."""

import json
import re
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from documents import PAGES, ROOT, Block, Command, blocks, commands, first_difference, our_words
from hybridvit.cli.main import COMMANDS, main

BLOCKS = blocks()
LINK = re.compile(r"(?<!`)!?\[[^\]]*\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)\s]*)?\)")
FIGURE = re.compile(r"(\d[\d.,]*)[^\d|<]*<!-- (benchmarks/\S+\.json): (.+?) -->")
INLINE = re.compile(r"`hybridvit ([a-z][a-z-]+)([^`]*)`")


def pages_with(mark: str) -> list[str]:
    return sorted({block.page for block in BLOCKS if block.mark == mark})


def generated_pages() -> dict[str, str]:
    """Model cards and recipes, which exist only when the site is built."""
    pytest.importorskip("mkdocs")
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("pages", ROOT / "docs" / "tools" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take for granted: a data set `digits`, its trained model in runs/digits, and a picture."""
    from hybridvit.data.digits import write_digits
    from hybridvit.models import catalog
    from hybridvit.weights import checkpoint

    root = tmp_path_factory.mktemp("workshop")
    everything = write_digits(root / "everything")
    for part, count in (("train", 7), ("test", 3)):
        for folder in sorted((everything / part).iterdir()):
            for picture in sorted(folder.iterdir())[:count]:
                kept = root / "digits" / part / folder.name / picture.name
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(picture, kept)
    shutil.rmtree(everything)
    torch.manual_seed(0)
    names = [str(digit) for digit in range(10)]
    for name in ("best", "last"):
        model = catalog.create("cvt_nano", num_classes=10)
        checkpoint.save(model, root / "runs" / "digits" / f"{name}.safetensors", label_names=names)
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC).save(root / "picture.jpg")
    return root


@pytest.fixture
def desk(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the workshop for one page, which is the current folder."""
    shutil.copytree(workshop, tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    return tmp_path / "desk"


def run(words: list[str]) -> int | str | None:
    try:
        return main(words)
    except SystemExit as error:
        return error.code


def do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are parsed, not run."""
    for name in COMMANDS:
        monkeypatch.setattr(import_module(f"hybridvit.cli.{name}"), "run", lambda _: 0)


@pytest.mark.parametrize("block", [block for block in BLOCKS if commands(block)], ids=str)
def test_every_command_line_is_understood(
    block: Block, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    do_nothing(monkeypatch)
    for command in commands(block):
        code = run(command.words)
        assert code == 0, f"{block}: hybridvit {' '.join(command.words)}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_named_in_passing_are_understood(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a sentence an argument may be left out, but none may be wrong."""
    do_nothing(monkeypatch)
    for name, rest in INLINE.findall(page.read_text(encoding="utf-8")):
        code = run(our_words(f"hybridvit {name}{rest.rstrip(' .')}") or [])
        error = capsys.readouterr().err
        assert code == 0 or re.search("are required|expected .* argument", error), f"hybridvit {name}{rest}\n{error}"


@pytest.mark.parametrize("page", pages_with("run"))
def test_marked_blocks_run(page: str, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in BLOCKS:
        if block.page != page or block.mark != "run":
            continue
        if block.language == "python":
            exec(compile(block.body, str(block), "exec"), names)
        for command in commands(block):
            code = run(command.words)
            assert code == 0, f"{block}: hybridvit {' '.join(command.words)}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("page", pages_with("shows"))
def test_shown_output_is_what_comes(page: str, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in BLOCKS:
        if block.page == page and block.mark == "shows":
            for command in commands(block):
                _check_output(command, capsys)


def _check_output(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    run(command.words)
    captured = capsys.readouterr()
    output = captured.out + captured.err
    missing = first_difference(command.output, output)
    assert missing is None, f"{command.place}: not in the output: {missing}\n\n{output}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    generated = {ROOT / "docs" / name for name in generated_pages()}
    targets = {page.parent / link for link in LINK.findall(page.read_text(encoding="utf-8"))}
    assert not {target for target in targets if not target.exists() and target.resolve() not in generated}


def test_figures_agree_with_their_files() -> None:
    """Behind a figure, <!-- benchmarks/FILE.json: EXPRESSION --> says where it comes from; `data` is the file's content."""
    names = {"median": median, "min": min, "max": max, "len": len, "sum": sum}
    for page in PAGES:
        for written, file, expression in FIGURE.findall(page.read_text(encoding="utf-8")):
            value = eval(expression, {**names, "data": json.loads((ROOT / file).read_text())})
            digits = len(written.partition(".")[2])
            assert f"{value:.{digits}f}" == written.replace(",", ""), f"{page.name}: {written}, {file}: {value}"


def test_the_recipes_headers_hold_commands_that_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    from documents import our_words
    from hybridvit.config import list_recipes, load_recipe

    do_nothing(monkeypatch)
    for name in list_recipes():
        words = our_words(load_recipe(name).about.command)
        assert words, name
        assert run(words) == 0, name


def stage_rows(page: str) -> Iterator[list[str]]:
    """The rows of a page's tables whose first column is a stage's number."""
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"\| \d \|.*", line) and len(cells) == 6:
            yield cells


@pytest.mark.parametrize("name", ["cvt_13", "cvt_w24", "cmt_ti", "cmt_s", "cmt_l", "cvt_nano", "cmt_nano"])
def test_shapes_on_the_cards_are_the_models_own(name: str) -> None:
    from hybridvit.models import catalog

    rows = list(stage_rows(generated_pages()[f"models/{name}.md"]))
    with torch.device("meta"):
        model = catalog.create(name).eval()
        maps = model.forward_intermediates(
            torch.empty(1, 3, *model.pretrained_cfg["input_size"][1:]), intermediates_only=True
        )
    assert [(int(row[1]), row[2].partition(" +")[0]) for row in rows] == [
        (m.shape[1], f"{m.shape[2]} \N{MULTIPLICATION SIGN} {m.shape[3]}") for m in maps
    ]
    assert [(int(row[4]), int(row[5])) for row in rows] == list(
        zip(model.config.heads, model.config.depths, strict=True)
    )


@pytest.mark.parametrize("name", ["cvt_13", "cmt_s"])
def test_shapes_in_the_explanation_are_the_cards(name: str) -> None:
    text = (ROOT / "docs" / "how-they-work.md").read_text(encoding="utf-8")
    section = text.partition(f"<!-- shapes {name} -->")[2].partition("\n\n")[0]
    assert list(stage_rows(section)) == list(stage_rows(generated_pages()[f"models/{name}.md"]))
