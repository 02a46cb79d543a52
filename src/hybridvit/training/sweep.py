"""A grid of runs, one row at a time: finished rows are kept, an interrupted one is resumed, a failed one is noted.

A sweep file names a recipe, overrides for all rows (`set`), and the rows: a name, further overrides, and the published
top-1 if there is one.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console

from hybridvit.config import RECIPES, About, load_recipe
from hybridvit.data.source import Splits
from hybridvit.errors import CheckpointError, ConfigError, TrainingError
from hybridvit.files import replacing
from hybridvit.output import to_json
from hybridvit.training.loop import fit, prepare
from hybridvit.typed import from_dict, read_yaml

ABLATIONS = RECIPES / "ablations"


@dataclass(frozen=True, kw_only=True)
class Row:
    name: str
    set: tuple[str, ...] = ()
    """Overrides, as on the command line: optimizer.lr=1e-3."""
    published: float | None = None
    """Top-1 in percent, where somebody reports it."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    about: About
    recipe: str
    set: tuple[str, ...] = ()
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Outcome:
    """How one row ended. Units: percent, epochs."""

    row: str
    top1: float | None = None
    """The best of the run; None where it failed."""
    last_top1: float | None = None
    test_loss: float | None = None
    epochs: int | None = None
    published: float | None = None
    note: str = ""


def load_sweep(name_or_path: str | Path) -> Sweep:
    """Read a sweep by name (a file of recipes/ablations) or path, and check every row's recipe.

    Raises:
        ConfigError: no such file, or a mistake in it or in a row.
    """
    path = ABLATIONS / f"{name_or_path}.yaml"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        names = sorted(found.stem for found in ABLATIONS.glob("*.yaml"))
        near = difflib.get_close_matches(str(name_or_path), names, n=1, cutoff=0.0)
        raise ConfigError(f"{name_or_path} is neither a sweep nor a file; the nearest sweep is {near[0]}.")
    sweep = from_dict(Sweep, read_yaml(path), source=path.name)
    names = [row.name for row in sweep.rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{path.name}: rows need names of their own; twice: {', '.join(twice)}.")
    for row in sweep.rows:
        try:
            load_recipe(sweep.recipe, [*sweep.set, *row.set])
        except ConfigError as error:
            raise ConfigError(f"{path.name}, row {row.name}: {error}") from None
    return sweep


def run_sweep(
    sweep: Sweep,
    open_data: Callable[[float], Splits],
    *,
    out: Path,
    device: torch.device,
    overrides: Sequence[str] = (),
    console: Console | None = None,
) -> Iterator[Outcome]:
    """Train row after row into out/ROW, yielding each outcome and keeping out/table.json up to date.

    open_data: gives the pictures for a row's data.val_split.

    Ends early, without an outcome for the row under way, when a signal asks to stop.
    """
    outcomes = []
    for number, row in enumerate(sweep.rows, start=1):
        folder = out / f"{number:02d}-{re.sub(r'[^a-z0-9]+', '-', row.name.lower()).strip('-')}"
        recipe = load_recipe(sweep.recipe, [*sweep.set, *row.set, *overrides])
        try:
            run = prepare(
                recipe, open_data(recipe.data.val_split), out=folder, device=device, resume=True, console=console
            )
            if run.counters.step < run.total_steps:
                run.reporter.say(f"\n[{number}/{len(sweep.rows)}] {row.name}")
                fit(run)
            else:
                run.close()
        except (TrainingError, CheckpointError) as error:
            outcome = Outcome(row.name, published=row.published, note=str(error).splitlines()[0])
        else:
            if run.counters.step < run.total_steps:
                return
            outcome = _outcome(row, folder, epochs=run.schedule.epochs)
        outcomes.append(outcome)
        with replacing(out / "table.json") as temporary:
            temporary.write_text(to_json([asdict(o) for o in outcomes]) + "\n")
        yield outcome


def _outcome(row: Row, folder: Path, *, epochs: int) -> Outcome:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    judged = [line for line in lines if "top1" in line]
    best = max(judged, key=lambda line: line["top1"])
    return Outcome(
        row.name,
        top1=round(best["top1"], 2),
        last_top1=round(judged[-1]["top1"], 2),
        test_loss=round(judged[-1]["test_loss"], 4),
        epochs=epochs,
        published=row.published,
    )
