"""What is wrong with a data set: broken, duplicated, tiny and suspicious pictures, and its balance.

Problems make results wrong: unreadable pictures, pictures in formats that are not read, the same picture in training and test,
the same picture under two labels, classes in another order than ImageNet's. Notices are worth a look: what was passed over, tiny
pictures, near duplicates, classes of very different size, and pictures that look like another class.
"""

import hashlib
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from hybridvit.data.decode import decode
from hybridvit.data.duplicates import Group, exact_groups, fingerprint, near_groups
from hybridvit.data.imagenet import order_problem
from hybridvit.data.layout import FOREIGN
from hybridvit.data.source import Source
from hybridvit.errors import DataError, some
from hybridvit.output import Described, Table, printable

THUMBNAIL = 8
CHUNK = 64
NEIGHBOURS, AGREEING = 10, 9
MAX_COMPARED = 20_000
"""Looking for suspicious labels compares every picture with every other one."""
MIN_ACCURACY = 50.0
IMBALANCE = 10


@dataclass(frozen=True)
class Look:
    """One picture, as the check saw it. Shape: thumbnail (8, 8, 3) uint8, hash (16,) uint8; empty where broken."""

    part: str
    name: str
    label: int
    error: str = ""
    width: int = 0
    height: int = 0
    num_bytes: int = 0
    digest: bytes = b""
    hash: np.ndarray = field(default_factory=lambda: np.zeros(16, np.uint8))
    thumbnail: np.ndarray = field(default_factory=lambda: np.zeros((THUMBNAIL, THUMBNAIL, 3), np.uint8))


@dataclass(frozen=True)
class Suspicion:
    """A picture among whose nearest pictures nearly all are of one other class."""

    name: str
    label: str
    looks_like: str
    votes: int


@dataclass(frozen=True, kw_only=True)
class DataReport(Described):
    classes: tuple[str, ...]
    counts: dict[str, list[int]]
    """Pictures per class of every part, broken ones included."""
    files: dict[str, dict[str, Any]]
    """What was seen, taken, and passed over by reason, in every part."""
    sizes: dict[str, Any]
    """Smallest, median and largest width and height in pixels, and the mean of the file sizes in kB."""
    broken: list[dict[str, str]]
    tiny: list[str]
    """Pictures whose shorter side is below min_side."""
    min_side: int
    duplicates: list[Group]
    suspicious: list[Suspicion]
    thumbnail_accuracy: float | None
    """Percent of the pictures whose label is that of most of their nearest thumbnails; None where it was not measured.

    Suspicions are listed from 50 % on: where thumbnails cannot tell the classes apart, they cannot tell labels wrong."""
    problems: list[str]
    notices: list[str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def describe(self, *, most: int = 10) -> list[object]:
        """Sizes, a table of the classes, and what was found, of each kind at most so many."""
        blocks: list[object] = []
        if self.sizes:
            (w0, w1, w2), (h0, h1, h2) = self.sizes["width"], self.sizes["height"]
            sides = f"width {w0} to {w2}, median {w1}; height {h0} to {h2}, median {h1} pixels"
            blocks += [f"{sides}; {self.sizes['mean_kb']} kB each", ""]
        parts = list(self.counts)
        for part in parts:
            blocks.append(f"{part or 'whole'}: {self.files[part]['taken']} pictures of {self.files[part]['seen']} seen")
        rows: list[list[object]] = [[name, *(self.counts[p][k] for p in parts)] for k, name in enumerate(self.classes)]
        if len(rows) > 2 * most:
            rows.sort(key=lambda row: row[1:])
            rows = [*rows[:most], ["...", *(None for _ in parts)], *rows[-most:]]
        blocks.append(Table(["class", *(part or "pictures" for part in parts)], rows))
        for title, lines in self._listings().items():
            more = [f"... {len(lines) - most} more (--json lists all)"] if len(lines) > most else []
            blocks += ["\n  ".join([f"\n{title} ({len(lines)}):", *lines[:most], *more])] if lines else []
        blocks += ["", *(f"PROBLEM: {text}" for text in self.problems), *(f"notice: {text}" for text in self.notices)]
        return blocks if self.problems else [*blocks, "No problem found."]

    def _listings(self) -> dict[str, list[str]]:
        """What was found, by kind, a line each."""
        others = [g for g in self.duplicates if not g.across_parts and not g.across_labels]
        return {
            "Broken": [entry["error"] for entry in self.broken],
            "In more than one part": [" = ".join(g.names) for g in self.duplicates if g.across_parts],
            "More than one label": [" = ".join(g.names) for g in self.duplicates if g.across_labels],
            "More than once": [f"{' = '.join(g.names)}  ({g.kind})" for g in others],
            "Tiny": self.tiny,
            "Looks like another class": [f"{s.name}  is {s.label}, looks like {s.looks_like}" for s in self.suspicious],
        }


def check(
    parts: Mapping[str, Source],
    *,
    workers: int = 0,
    min_side: int = 32,
    on_progress: Callable[[int], None] = lambda _: None,
) -> DataReport:
    """Read, decode and compare every picture of every part. `on_progress` hears how many are read."""
    class_names = tuple(next(iter(parts.values())).class_names)
    looks = list(_look_at_all(parts, workers=workers, on_progress=on_progress))
    good = [look for look in looks if not look.error]
    exact = exact_groups(good)
    groups = exact + near_groups(good)
    suspicious, accuracy = _suspicions(good, class_names)
    report = DataReport(
        classes=class_names,
        counts={
            part: np.bincount(np.array(source.labels, dtype=np.int64), minlength=len(class_names)).tolist()
            for part, source in parts.items()
        },
        files={part: source.counts.to_dict() for part, source in parts.items()},
        sizes=_sizes(good),
        broken=[{"name": look.name, "error": look.error} for look in looks if look.error],
        tiny=[look.name for look in good if min(look.width, look.height) < min_side],
        min_side=min_side,
        duplicates=groups,
        suspicious=suspicious,
        thumbnail_accuracy=accuracy,
        problems=[],
        notices=[],
    )
    _conclude(report)
    return report


def _look_at_all(parts: Mapping[str, Source], *, workers: int, on_progress: Callable[[int], None]) -> Iterator[Look]:
    """In the order of the parts and of their pictures."""
    jobs = [
        (part, range(start, min(start + CHUNK, len(source))))
        for part, source in parts.items()
        for start in range(0, len(source), CHUNK)
    ]
    done = 0
    if not workers:
        for part, indices in jobs:
            yield from (_look(parts[part], part, index) for index in indices)
            on_progress(done := done + len(indices))
        return
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawned, initializer=_keep_parts, initargs=(dict(parts),)) as pool:
        futures = [pool.submit(_look_at_some, part, indices) for part, indices in jobs]
        try:
            for future in as_completed(futures):
                on_progress(done := done + len(future.result()))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # else the error would wait for all that is left
            raise
        for future in futures:
            yield from future.result()


_parts: dict[str, Source] = {}
"""A worker process's copy of the sources."""


def _keep_parts(parts: dict[str, Source]) -> None:
    _parts.update(parts)


def _look_at_some(part: str, indices: range) -> list[Look]:
    return [_look(_parts[part], part, index) for index in indices]


def _look(source: Source, part: str, index: int) -> Look:
    name, label = source.name(index), source.labels[index]
    try:
        data = source.read(index)
        picture = decode(data, name=name)
    except (DataError, OSError) as error:
        return Look(part, name, label, error=printable(str(error)))
    if not isinstance(data, bytes):
        data = data.tobytes()
    small = picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return Look(
        part,
        name,
        label,
        width=picture.width,
        height=picture.height,
        num_bytes=len(data),
        digest=hashlib.blake2b(data, digest_size=16).digest(),
        hash=fingerprint(picture),
        thumbnail=np.asarray(small),
    )


def _sizes(looks: Sequence[Look]) -> dict[str, Any]:
    if not looks:
        return {}
    widths, heights = [look.width for look in looks], [look.height for look in looks]
    return {
        "width": [min(widths), int(np.median(widths)), max(widths)],
        "height": [min(heights), int(np.median(heights)), max(heights)],
        "mean_kb": round(float(np.mean([look.num_bytes for look in looks])) / 1000, 1),
    }


def _suspicions(looks: Sequence[Look], class_names: Sequence[str]) -> tuple[list[Suspicion], float | None]:
    """Compare 8 x 8 thumbnails, each freed of its brightness and contrast, by their correlation."""
    if not NEIGHBOURS < len(looks) <= MAX_COMPARED:
        return [], None
    labels = np.array([look.label for look in looks])
    features = np.stack([look.thumbnail.reshape(-1) for look in looks]).astype(np.float32)
    features -= features.mean(axis=1, keepdims=True)
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-6)
    found, num_right = [], 0
    for start in range(0, len(looks), 512):
        likeness = features[start : start + 512] @ features.T
        rows = np.arange(len(likeness))
        likeness[rows, start + rows] = -np.inf
        nearest = np.argpartition(-likeness, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        for index, neighbours in zip(start + rows, labels[nearest], strict=True):
            winner, votes = Counter(neighbours.tolist()).most_common(1)[0]
            num_right += winner == labels[index]
            if winner != labels[index] and votes >= AGREEING:
                look = looks[int(index)]
                found.append(Suspicion(look.name, class_names[look.label], class_names[winner], votes))
    accuracy = 100 * num_right / len(looks)
    return (found if accuracy >= MIN_ACCURACY else []), accuracy


def _conclude(report: DataReport) -> None:
    """Fill in problems and notices."""
    problems, notices = report.problems, report.notices
    if report.broken:
        problems.append(f"{len(report.broken)} pictures cannot be read.")
    leaks = [group for group in report.duplicates if group.across_parts]
    if leaks:
        problems.append(f"{len(leaks)} pictures are in more than one part: they are learnt and evaluated on.")
    contradictions = [group for group in report.duplicates if group.kind == "exact" and group.across_labels]
    if contradictions:
        problems.append(f"{len(contradictions)} pictures, byte for byte the same, have more than one label.")
    if problem := order_problem(report.classes):
        problems.append(problem)
    for part, counts in report.counts.items():
        where = f" in {part}" if part else ""
        for reason, number in report.files[part]["passed_over"].items():
            of_weight = problems if reason.startswith(FOREIGN) else notices
            of_weight.append(f"{number} passed over{where}: {reason}.")
        notices += [f"{note}{where}." for note in report.files[part].get("notes", ())]
        empty = [name for name, count in zip(report.classes, counts, strict=True) if not count]
        if empty:
            notices.append(f"{len(empty)} classes have no picture{where}: {some(empty)}.")
        filled = [count for count in counts if count]
        if filled and max(filled) > IMBALANCE * min(filled):
            notices.append(f"The largest class{where} has {max(filled)} pictures, the smallest {min(filled)}.")
    if report.tiny:
        notices.append(f"{len(report.tiny)} pictures have a side below {report.min_side} pixels.")
    copies = [group for group in report.duplicates if not group.across_parts]
    if copies:
        notices.append(f"{len(copies)} pictures come more than once within a part.")
    if report.suspicious:
        notices.append(f"{len(report.suspicious)} pictures look like another class; see whether their label is right.")
