"""A run as one page, and several runs compared on one. Which figures there are, metrics.jsonl says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from hybridvit.evaluation.table import to_frame
from hybridvit.output import Described, Table, printable
from hybridvit.render.figures import line_chart
from hybridvit.render.page import charts, folded, fragment, page, preformatted, save_page, section, table, tiles
from hybridvit.report.history import History, differences, read_run

TITLES = {
    "loss": "Training loss",
    "test_loss": "Test loss",
    "top1": "Top-1, %",
    "top5": "Top-5, %",
    "lr": "Learning rate",
    "grad_norm": "Norm of the gradient",
    "images_per_second": "Pictures per second",
}
"""Of curves whose names say too little."""


def run_page(run: History, *, answers: str = "", environment: Mapping[str, str]) -> str:
    """Curves, what the last evaluation says, recipe and environment of one run.

    answers: HTML of the last evaluation's Result, as it shows itself in a notebook.
    """
    best, primary = run.best or {}, run.primary
    skipped = (run.metrics[-1].get("skipped") or 0) if run.metrics else 0
    return page(
        run.recipe.get("about", {}).get("title") or run.name,
        tiles(
            {
                f"best {run.primary_name}": _percent(best.get(primary)),
                "at step": best.get("step"),
                "test pictures": best.get("images"),
                f"last {run.primary_name}": _percent(run.last.get(primary)),
                "pictures per second": None if run.speed is None else f"{run.speed:.0f}",
            }
        ),
        section("Curves", curves({"": run})),
        section("Last evaluation", Markup(answers)) if answers else Markup(),
        section("Recipe", folded("the resolved recipe", preformatted(yaml.safe_dump(run.recipe, sort_keys=False)))),
        section("Environment", table(["what", "value"], list(environment.items()))),
        subtitle=f"{run.folder}: {run.recipe['model']['name']}."
        + (f" {skipped} steps were not finite and were skipped." if skipped else ""),
    )


@dataclass(frozen=True)
class Comparison(Described):
    """Several runs side by side."""

    runs: list[History]

    def to_dict(self) -> dict[str, Any]:
        return {"runs": comparison(self.runs), "differences": dict(differences(self.runs))}

    def to_frame(self) -> Any:
        """A pandas.DataFrame with a row per run."""
        return to_frame(comparison(self.runs))

    def describe(self) -> list[object]:
        """Tables of the figures, and of what the recipes differ in."""
        rows, differing = comparison(self.runs), differences(self.runs)
        lines = [[f"{v:.2f}" if isinstance(v, float) else v for v in row.values()] for row in rows]
        recipes = Table(["recipe", *unique_names(self.runs)], [[key, *values] for key, values in differing])
        return [Table(list(rows[0]), lines), *(["", recipes] if differing else [])]

    def sections(self) -> list[Markup]:
        """Figures, what the recipes differ in, and the curves over each other."""
        names, rows = unique_names(self.runs), comparison(self.runs)
        differing = [[key, *map(_short, values)] for key, values in differences(self.runs)]
        return [
            section("Figures", table(list(rows[0]), [list(row.values()) for row in rows])),
            section(
                "What their recipes differ in",
                table(["key", *names], differing) if differing else Markup("Nothing: the recipes are the same."),
            ),
            section("Curves", curves(dict(zip(names, self.runs, strict=True)))),
        ]

    def page(self) -> str:
        return page(f"{len(self.runs)} runs compared", *self.sections())

    def save(self, path: str | Path) -> None:
        """Write the page. Raises: DataError when it cannot be written."""
        save_page(path, self.page())

    def _repr_html_(self) -> str:
        return fragment(*self.sections())


def compare_runs(folders: Sequence[str | Path]) -> Comparison:
    """Set the folders of training runs side by side: figures, recipes, curves.

    Raises: DataError for a folder that holds no run.
    """
    return Comparison([read_run(folder) for folder in folders])


def comparison(runs: Sequence[History]) -> list[dict[str, Any]]:
    """One row of figures per run."""
    rows = []
    for name, run in zip(unique_names(runs), runs, strict=True):
        best, figure = run.best or {}, f"{run.primary_name} %"
        rows.append(
            {
                "run": name,
                "model": run.recipe["model"]["name"],
                "steps": run.metrics[-1]["step"] if run.metrics else 0,
                f"best {figure}": best.get(run.primary),
                "at step": best.get("step"),
                f"last {figure}": run.last.get(run.primary),
                "last test loss": run.last.get("test_loss"),
                "pictures/s": run.speed,
            }
        )
    keys = dict.fromkeys(key for row in rows for key in row)  # runs of several tasks have figures of several names
    return [{key: row.get(key) for key in keys} for row in rows]


def unique_names(runs: Sequence[History]) -> list[str]:
    """The folders' names; their paths where two have the same name."""
    names = [run.name for run in runs]
    return [printable(name) for name in (names if len(set(names)) == len(names) else (str(run.folder) for run in runs))]


def curves(runs: Mapping[str, History]) -> Markup:
    """Everything that a run noted, runs over each other, by name."""
    keys = dict.fromkeys(key for run in runs.values() for key in run.curves)
    order = [key for key in TITLES if key in keys] + [key for key in keys if key not in TITLES]
    return charts(
        *(partial(line_chart, _title(key), {name: run.curve(key) for name, run in runs.items()}) for key in order)
    )


def _title(key: str) -> str:
    return TITLES.get(key, key)


def _percent(figure: float | None) -> str | None:
    return None if figure is None else f"{figure:.2f} %"


def _short(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
