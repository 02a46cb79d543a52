"""A data set checked, and the findings as one HTML page."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from hybridvit.data.check import DataReport, check
from hybridvit.data.detection.check import BoxReport, check_boxes
from hybridvit.data.detection.opening import find_boxes, open_box_parts
from hybridvit.data.mask_check import MaskReport, check_masks
from hybridvit.data.mask_folders import has_masks
from hybridvit.data.mask_opening import open_mask_parts
from hybridvit.data.opening import open_parts
from hybridvit.data.source import Source
from hybridvit.errors import ConfigError
from hybridvit.render.page import note, page, save_page, section, table, thumbnails, tiles

MOST = 24
"""Entries shown per finding; all are in the JSON."""
Places = Mapping[str, tuple[Source, int]]
"""Source and number of every picture, by name."""


def check_data(
    data: str | Path,
    *,
    root: Path | None = None,
    columns: Sequence[str] = (),
    min_side: int = 32,
    workers: int = 0,
    out: str | Path | None = None,
    on_picture: Callable[[int, int], None] = lambda done, total: None,
    on_found: Callable[[DataReport], None] = lambda report: None,
) -> DataReport | BoxReport | MaskReport:
    """Read every picture of a data set and say what would spoil results: of classes, of boxes, or of masks, as it has them.

    Args:
        min_side: of classes, smaller pictures are tiny.
        workers: of classes, processes that read.
        out: also write a page of what was found, with pictures; of classes only.
        on_picture: called with how many are read, and of how many.
        on_found: called with the report before the page is written, which may fail.

    Raises: DataError for what cannot be read at all; ConfigError for arguments that boxes and masks do not take.
    """
    path, parts = Path(data), dict[str, Any]()

    def count(done: int) -> None:
        on_picture(done, sum(map(len, parts.values())))

    has_boxes = path.is_dir() and bool(find_boxes(path))
    if not has_boxes and not has_masks(path):
        parts |= open_parts(data, root=root, columns=columns)
        report = check(parts, workers=workers, min_side=min_side, on_progress=count)
        if out is not None:
            on_found(report)
            save_page(out, data_page(report, parts, title=str(data)))
        return report
    given = [name for name, value in (("--root", root), ("--columns", columns), ("--report", out)) if value]
    if given:
        kind = "these pictures have boxes" if has_boxes else "this data set has masks"
        raise ConfigError(f"{' and '.join(given)} cannot be had here: {kind}.")
    if has_boxes:
        parts |= open_box_parts(path)
        return check_boxes(parts, on_progress=count)
    parts |= open_mask_parts(path)
    return check_masks(parts, on_progress=count)


def data_page(report: DataReport, parts: Mapping[str, Source], *, title: str) -> str:
    """Everything that `hybridvit data check` found in these parts, with the pictures in question."""
    places = {source.name(index): (source, index) for source in parts.values() for index in range(len(source))}
    total = sum(map(sum, report.counts.values()))
    sizes = report.sizes
    facts: dict[str, object] = {"pictures": total, "classes": len(report.classes), "problems": len(report.problems)}
    if sizes:
        facts |= {
            "median size": f"{sizes['width'][1]} x {sizes['height'][1]}",
            "kB per picture": sizes["mean_kb"],
        }
    verdict = report.problems + report.notices
    return page(
        f"Data check: {title}",
        tiles(facts),
        section("Verdict", table(["finding"], [[text] for text in verdict]) if verdict else note("Nothing is wrong.")),
        _broken(report),
        _duplicates(report, places),
        _suspicious(report, places),
        _gallery("Tiny pictures", [places[name] for name in report.tiny], f"A side is below {report.min_side} pixels."),
        section("Pictures per class", _balance(report)),
    )


def _broken(report: DataReport) -> Markup:
    if not report.broken:
        return Markup()
    return section("Broken pictures", table(["why"], [[entry["error"]] for entry in report.broken[:MOST]]))


def _duplicates(report: DataReport, places: Places) -> Markup:
    groups = sorted(report.duplicates, key=lambda group: (not group.across_parts, not group.across_labels))
    if not groups:
        return Markup()
    rows: list[Markup] = []
    for group in groups[:MOST]:
        marks: list[str] = [group.kind]
        marks += ["in more than one part"] if group.across_parts else []
        marks += ["more than one label"] if group.across_labels else []
        rows += [note(", ".join(marks)), thumbnails([places[name] for name in group.names[:6]])]
    return section(
        "Pictures that come more than once",
        *rows,
        note=f"{len(groups)} groups. Exact: the files are the same. Near: they look the same at 9 x 9 pixels.",
    )


def _suspicious(report: DataReport, places: Places) -> Markup:
    if not report.suspicious:
        return Markup()
    some = report.suspicious[:MOST]
    captions = [f"{s.label}, looks like {s.looks_like} ({s.votes} of 10)" for s in some]
    return section(
        "Labels to look at",
        thumbnails([places[s.name] for s in some], captions),
        note=f"At least 9 of the 10 most similar thumbnails (8 x 8 pixels) are of one other class. In this data set such "
        f"thumbnails tell {report.thumbnail_accuracy:.0f} % of the pictures right: the lower, the less this list means.",
    )


def _gallery(title: str, found: Sequence[tuple[Source, int]], note: str) -> Markup:
    return section(title, thumbnails(found[:MOST]), note=f"{len(found)}. {note}") if found else Markup()


def _balance(report: DataReport) -> Markup:
    parts = list(report.counts)
    rows = [[name, *(report.counts[part][k] for part in parts)] for k, name in enumerate(report.classes)]
    return table(["class", *(part or "pictures" for part in parts)], rows)
