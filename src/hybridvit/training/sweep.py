"""A grid of runs, one row at a time: finished rows are kept, an interrupted one is resumed, a failed one is noted.

A sweep file names a recipe, overrides for all rows (`set`), and the rows: a name, further overrides, and the published
top-1 if there is one.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from hybridvit.config import RECIPES, About, load_recipe
from hybridvit.data.opening import Data
from hybridvit.data.source import Splits
from hybridvit.errors import CheckpointError, ConfigError, TrainingError
from hybridvit.evaluation.table import to_frame, to_html
from hybridvit.files import replacing
from hybridvit.output import Described, Table, printable, to_json
from hybridvit.report.history import read_run
from hybridvit.runtime import pick_device
from hybridvit.tasks import find_task
from hybridvit.tasks.task import Task
from hybridvit.training.loop import fit, prepare
from hybridvit.typed import from_dict, read_yaml

ABLATIONS = RECIPES / "ablations"
TABLE = "table.json"


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

    @property
    def task(self) -> Task:
        return find_task(load_recipe(self.recipe, self.set).task)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one row ended. Units: percent, epochs."""

    row: str
    best: float | None = None
    """The task's primary figure, the best of the run; None where it failed."""
    last: float | None = None
    test_loss: float | None = None
    """Of the last evaluation, where the task has one."""
    epochs: int | None = None
    published: float | None = None
    note: str = ""
    counts: Mapping[str, Any] | None = None
    """Of each part: pictures seen, taken and passed over, by reason."""

    def to_dict(self, primary: str) -> dict[str, Any]:
        """primary: what the task calls its figure."""
        values = asdict(self)
        return {"row": values.pop("row"), primary: values.pop("best"), f"last_{primary}": values.pop("last"), **values}


@dataclass(frozen=True)
class Swept(Described):
    """The rows that were trained, or failed."""

    sweep: Sweep
    out: Path
    outcomes: list[Outcome]

    @property
    def finished(self) -> bool:
        """False when a signal ended it early; called again it goes on."""
        return len(self.outcomes) == len(self.sweep.rows)

    def to_frame(self) -> Any:
        """A pandas.DataFrame with a line per row."""
        return to_frame([outcome.to_dict(self.sweep.task.primary) for outcome in self.outcomes])

    def describe(self) -> list[object]:
        name = self.sweep.task.primary_name
        header = ["row", f"best {name}", f"last {name}", "test loss", "epochs", "published", "note"]
        rows = [list(asdict(outcome).values())[: len(header)] for outcome in self.outcomes]
        return [Table(header, rows, f"{self.sweep.about.title}: {self.out / TABLE}")]

    def _repr_html_(self) -> str:
        found: Any = self.describe()[0]
        return to_html(found.title, found.header, found.rows)


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


def sweep(
    name_or_path: str | Path,
    data: Data,
    *,
    out: str | Path | None = None,
    root: Path | None = None,
    columns: Sequence[str] = (),
    val_split: float = 0.0,
    device: str = "auto",
    overrides: Sequence[str] = (),
    console: Console | None = None,
) -> Swept:
    """Train a grid of recipes, one row after another. Called again it goes on: finished rows are kept.

    Args:
        name_or_path: a file of recipes/ablations, such as digits, or a YAML file of your own.
        out: where the runs and table.json are kept; by default runs/sweep-NAME.
        val_split: held out of a data set without a test part, in place of what each row's recipe says.
        overrides: to every row's recipe: ["schedule.epochs=10"].
        console: where to tell of the runs; by default nowhere.

    Raises: ConfigError, DataError as `train`; a row whose training fails is noted, and the next one begins.
    """
    grid = load_sweep(name_or_path)
    folder = Path("runs") / f"sweep-{Path(name_or_path).stem}" if out is None else Path(out)

    @cache
    def open_data(held_out: float) -> Splits:
        splits = grid.task.open_splits(data, root=root, columns=columns, val_split=val_split or held_out)
        if console:
            console.print(printable(splits.summary()), highlight=False, markup=False, soft_wrap=True)
        return splits

    where = pick_device(device)
    rows = run_sweep(grid, open_data, out=folder, device=where, overrides=overrides, console=console)
    return Swept(grid, folder, list(rows))


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
    outcomes, primary = list[Outcome](), sweep.task.primary
    for number, row in enumerate(sweep.rows, start=1):
        folder = out / f"{number:02d}-{re.sub(r'[^a-z0-9]+', '-', row.name.lower()).strip('-')}"
        recipe = load_recipe(sweep.recipe, [*sweep.set, *row.set, *overrides])
        splits = open_data(recipe.data.val_split)
        try:
            run = prepare(recipe, splits, out=folder, device=device, resume=True, console=console)
            if run.counters.step < run.total_steps:
                run.reporter.say(f"\n[{number}/{len(sweep.rows)}] {row.name}")
                fit(run)
            else:
                run.close()
        except (TrainingError, CheckpointError) as error:
            outcome = Outcome(row=row.name, published=row.published, note=str(error).splitlines()[0])
        else:
            if run.counters.step < run.total_steps:
                return
            outcome = _outcome(row, folder, epochs=run.schedule.epochs)
        outcome = replace(outcome, counts=splits.to_dict())
        outcomes.append(outcome)
        with replacing(out / TABLE) as temporary:
            temporary.write_text(to_json([o.to_dict(primary) for o in outcomes]) + "\n")
        yield outcome


def _outcome(row: Row, folder: Path, *, epochs: int) -> Outcome:
    run = read_run(folder)
    best, last = run.best or {}, run.last
    return Outcome(
        row=row.name,
        best=_rounded(best.get(run.primary), 2),
        last=_rounded(last.get(run.primary), 2),
        test_loss=_rounded(last.get("test_loss"), 4),
        epochs=epochs,
        published=row.published,
    )


def _rounded(figure: float | None, digits: int) -> float | None:
    return None if figure is None else round(figure, digits)
