"""The findings of a data check as one HTML page."""

from collections.abc import Sequence

from PIL import Image

from hybridvit.data.check import DataReport
from hybridvit.data.decode import decode
from hybridvit.data.opening import read_named
from hybridvit.errors import DataError
from hybridvit.evaluate.page import page, pictures, section, table, tiles

MOST = 24
"""Entries shown per finding; all are in the JSON."""


def data_page(report: DataReport, *, title: str) -> str:
    """Everything that `hybridvit data check` found, with the pictures in question."""
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
        section(
            "Verdict", "".join(table(["finding"], [[text] for text in verdict])) if verdict else "Nothing is wrong."
        ),
        _broken(report),
        _duplicates(report),
        _suspicious(report),
        _gallery("Tiny pictures", report.tiny, f"A side is below {report.min_side} pixels."),
        section("Pictures per class", _balance(report)),
    )


def _broken(report: DataReport) -> str:
    if not report.broken:
        return ""
    return section("Broken pictures", table(["why"], [[entry["error"]] for entry in report.broken[:MOST]]))


def _duplicates(report: DataReport) -> str:
    groups = sorted(report.duplicates, key=lambda group: (not group.across_parts, not group.across_labels))
    if not groups:
        return ""
    rows = []
    for group in groups[:MOST]:
        marks: list[str] = [group.kind]
        marks += ["in more than one part"] if group.across_parts else []
        marks += ["more than one label"] if group.across_labels else []
        rows.append(f"<p><b>{', '.join(marks)}</b></p>" + pictures(_thumbnails(group.names[:6])))
    return section(
        "Pictures that come more than once",
        *rows,
        note=f"{len(groups)} groups. Exact: the files are the same. Near: they look the same at 9 x 9 pixels.",
    )


def _suspicious(report: DataReport) -> str:
    if not report.suspicious:
        return ""
    some = report.suspicious[:MOST]
    captions = [f"{s.label}, looks like {s.looks_like} ({s.votes} of 10)" for s in some]
    shown = [
        (picture, f"{caption}: {name}")
        for (picture, name), caption in zip(_thumbnails([s.name for s in some]), captions, strict=False)
    ]
    return section(
        "Labels to look at",
        pictures(shown),
        note=f"At least 9 of the 10 most similar thumbnails (8 x 8 pixels) are of one other class. In this data set such "
        f"thumbnails tell {report.thumbnail_accuracy:.0f} % of the pictures right: the lower, the less this list means.",
    )


def _gallery(title: str, names: Sequence[str], note: str) -> str:
    return section(title, pictures(_thumbnails(names[:MOST])), note=f"{len(names)}. {note}") if names else ""


def _balance(report: DataReport) -> str:
    parts = list(report.counts)
    rows = [[name, *(report.counts[part][k] for part in parts)] for k, name in enumerate(report.classes)]
    return table(["class", *(part or "pictures" for part in parts)], rows)


def _thumbnails(names: Sequence[str]) -> list[tuple[Image.Image, str]]:
    """What can be read now; names that no file has (rows of a table) have no picture."""
    shown = []
    for name in names:
        try:
            shown.append((decode(read_named(name), name=name), name))
        except (DataError, OSError):
            shown.append((Image.new("RGB", (8, 8), "grey"), name))
    return shown
