"""A run as one self-contained HTML page, and several runs compared on one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml
from PIL import Image

from hybridvit.data.decode import decode
from hybridvit.data.opening import read_named
from hybridvit.errors import DataError
from hybridvit.evaluate.calibration import reliability
from hybridvit.evaluate.history import History, differences
from hybridvit.evaluate.logits import Result
from hybridvit.evaluate.metrics import softmax
from hybridvit.evaluate.page import (
    charts,
    folded,
    heat_map,
    line_chart,
    page,
    pictures,
    preformatted,
    section,
    table,
    tiles,
)

WORST = 24
MAX_HEAT_MAP = 200
"""Classes; beyond, only the most frequent confusions are listed."""
CURVES = {
    "loss": "Training loss",
    "test_loss": "Test loss",
    "top1": "Top-1, %",
    "lr": "Learning rate",
    "grad_norm": "Norm of the gradient",
    "images_per_second": "Pictures per second",
}


def run_page(run: History, *, environment: Mapping[str, str]) -> str:
    """Curves, accuracy by class, confusion, calibration, worst mistakes, recipe and environment of one run."""
    best, speed, result = run.best, run.speed, run.result()
    facts: dict[str, object] = {}
    if best:
        facts |= {"best top-1": f"{best['top1']:.2f} %", "at step": best["step"], "test pictures": best["images"]}
    if result:
        facts |= {
            "last top-1": f"{result.metrics.top1:.2f} %",
            "calibration error": f"{result.calibration_error:.2f} %",
        }
    if speed:
        facts["pictures per second"] = f"{speed:.0f}"
    skipped = sum(line.get("skipped", 0) for line in run.metrics[-1:])
    notes = f" {skipped} steps were not finite and were skipped." if skipped else ""
    return page(
        run.recipe["about"]["title"],
        tiles(facts),
        section("Curves", charts(*(line_chart(title, {title: run.curve(key)}) for key, title in CURVES.items()))),
        *(_answers(result) if result else []),
        section("Recipe", folded("the resolved recipe", preformatted(yaml.safe_dump(run.recipe, sort_keys=False)))),
        section("Environment", table(["what", "value"], list(environment.items()))),
        subtitle=f"{run.folder}: {run.recipe['model']['name']}.{notes}",
    )


def compare_page(runs: Sequence[History]) -> str:
    """Several runs: figures, what their recipes differ in, and their curves over each other."""
    names = unique_names(runs)
    rows = comparison(runs)
    differing = [[key, *map(_short, values)] for key, values in differences(runs)]
    return page(
        f"{len(runs)} runs compared",
        section("Figures", table(list(rows[0]), [list(row.values()) for row in rows])),
        section(
            "What their recipes differ in",
            table(["key", *names], differing) if differing else "Nothing: the recipes are the same.",
        ),
        section(
            "Curves",
            charts(
                *(
                    line_chart(title, {name: run.curve(key) for name, run in zip(names, runs, strict=True)})
                    for key, title in CURVES.items()
                )
            ),
        ),
    )


def comparison(runs: Sequence[History]) -> list[dict[str, Any]]:
    """One row of figures per run."""
    rows = []
    for name, run in zip(unique_names(runs), runs, strict=True):
        best: dict[str, Any] = run.best or {}
        judged = [line for line in run.metrics if line.get("top1") is not None]
        last: dict[str, Any] = judged[-1] if judged else {}
        rows.append(
            {
                "run": name,
                "model": run.recipe["model"]["name"],
                "steps": run.metrics[-1]["step"] if run.metrics else 0,
                "best top-1 %": best.get("top1"),
                "at step": best.get("step"),
                "last top-1 %": last.get("top1"),
                "last test loss": last.get("test_loss"),
                "pictures/s": run.speed,
            }
        )
    return rows


def unique_names(runs: Sequence[History]) -> list[str]:
    """The folders' names; their paths where two have the same name."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def _answers(result: Result) -> list[str]:
    metrics = result.metrics
    classes = sorted(metrics.classes, key=lambda c: 101 if c.recall is None else c.recall)
    by_class = table(
        ["class", "pictures", "recall %", "precision %"], [[c.name, c.images, c.recall, c.precision] for c in classes]
    )
    curve = [(b.confidence, b.accuracy) for b in reliability(result.logits, result.labels)]
    calibration = line_chart(
        "Accuracy by confidence, %", {"this model": curve, "calibrated": [(0, 0), (100, 100)]}, x_label="confidence, %"
    )
    broken = f" {len(result.broken)} pictures could not be read and are in no figure." if result.broken else ""
    return [
        section("Confusion", _confusion(result), note="Rows are true classes, columns what the model said." + broken),
        section(
            "Accuracy by class",
            by_class if len(classes) <= 30 else folded(f"{len(classes)} classes, worst first", by_class),
        ),
        section("Calibration", charts(calibration), note="Above the line the model is too modest, below it too sure."),
        section("Worst pictures", pictures(_worst(result)), note="The most confident mistakes."),
    ]


def _confusion(result: Result) -> str:
    counts = np.array(result.metrics.confusion)
    names = result.class_names
    drawing = f'<div class="wide">{heat_map(counts, names)}</div>' if len(names) <= MAX_HEAT_MAP else ""
    wrong = counts - np.diag(np.diag(counts))
    most = [divmod(int(flat), len(names)) for flat in np.argsort(-wrong, axis=None, kind="stable")[:10]]
    rows = [[int(wrong[i, j]), names[i], names[j]] for i, j in most if wrong[i, j]]
    return drawing + (table(["pictures", "true class", "found as"], rows) if rows else "")


def _worst(result: Result) -> list[tuple[Image.Image, str]]:
    shown = []
    indices = result.mistakes()[:WORST]
    for index, row in zip(indices, softmax(result.logits[indices]) if len(indices) else [], strict=True):
        found, truth = result.class_names[row.argmax()], result.class_names[result.labels[index]]
        path = result.paths[index]
        try:
            picture = decode(read_named(path), name=path)
        except (DataError, OSError):
            picture = Image.new("RGB", (8, 8), "grey")  # moved since, or a row of a table: its name is left
        shown.append((picture, f"is {truth}, found {found} ({100 * row.max():.0f} %): {path}"))
    return shown


def _short(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
