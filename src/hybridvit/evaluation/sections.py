"""Parts of a page on an evaluation: confusion, accuracy by class."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from markupsafe import Markup

from hybridvit.render.figures import confusion_matrix
from hybridvit.render.page import charts, folded, section, table

MAX_MATRIX = 200
"""Classes; beyond, only the most frequent confusions are listed."""
MAX_ROWS = 30
"""Of a table; longer ones are folded away."""


def confusion_section(counts_KK: np.ndarray, names: Sequence[str]) -> Markup:
    """The matrix, and the confusions that are most frequent."""
    wrong_KK = counts_KK - np.diag(np.diag(counts_KK))
    most = [divmod(int(flat), len(names)) for flat in np.argsort(-wrong_KK, axis=None, kind="stable")[:10]]
    rows = [[int(wrong_KK[i, j]), names[i], names[j]] for i, j in most if wrong_KK[i, j]]
    return section(
        "Confusion",
        charts(partial(confusion_matrix, counts_KK, names)) if len(names) <= MAX_MATRIX else Markup(),
        table(["pictures", "true class", "found as"], rows) if rows else Markup(),
        note="Rows are true classes, columns what the model said.",
    )


def class_section(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> Markup:
    """One row per class."""
    whole = table(headers, rows)
    return section("Accuracy by class", whole if len(rows) <= MAX_ROWS else folded(f"{len(rows)} classes", whole))
