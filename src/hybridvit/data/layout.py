"""What lies where in a data set: parts, classes, pictures, and what is passed over. One rule for folders, zip and tar files.

    train/cat/more/0.jpg        part (train; test, val or validation), class, folders of any depth, picture
    cat/0.jpg                   the same without parts: one whole
    anything/train/cat/0.jpg    a folder that holds everything else is looked through

Passed over, and counted: hidden files and folders, thumbnails' folders, other files than pictures, pictures beside the class
folders, folders beside the parts, members of an archive whose path leads out of it.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hybridvit.data.decode import FOREIGN_ENDINGS, endings
from hybridvit.data.labels import number_labels, one_spelling
from hybridvit.data.source import Counts
from hybridvit.errors import DataError, some
from hybridvit.output import printable

TRAIN = "train"
TESTS = ("test", "val", "validation")
PARTS = (TRAIN, *TESTS)
WHOLE = ""
"""Stands for the part's name where there are no parts."""
NEAR_PARTS = re.compile(
    r"(train|training|test|testing|val|valid|validation|eval|evaluation|dev|holdout)([-_ ]?(set|data|images|\d+))?",
    re.I,
)
NO_CLASSES = ("images", "image", "imgs", "img", "pictures", "photos", "labels", "annotations", "masks")
SYSTEM_FOLDERS = ("__macosx", "@eadir", "@tmp", "#recycle", "$recycle.bin", "lost+found", "system volume information")

HIDDEN = "hidden"
OUTSIDE = "whose path leads out of the archive (..)"
FOREIGN = "of a format that is not read"
BESIDE_CLASSES = "beside the class folders"
BESIDE_PARTS = "beside the parts"


class Entry(NamedTuple):
    """Something in a container."""

    path: str
    """From the container's top, / between the names. A folder's ends in /."""
    place: Any
    """What the container reads it by."""
    label: str | None = None
    """What the container says of it. Without it, the class folder is the label."""
    reason: str | None = None
    """Why the container passes it over, if it does."""

    @property
    def is_folder(self) -> bool:
        return not self.path or self.path.endswith("/")

    def why_not(self) -> str | None:
        return self.reason or why_not(self.path)


@dataclass(frozen=True)
class Arranged:
    """The pictures of one part, in the container's order."""

    class_names: tuple[str, ...]
    places: list[Any]
    labels: list[int]
    counts: Counts


def member_path(name: str) -> str:
    """Where a member of an archive lies: ././a//0.jpg and /a/0.jpg are a/0.jpg. A folder's ends in /, the top's is empty."""
    path = posixpath.normpath(name.lstrip("/"))
    if path == ".":
        return ""
    return f"{path}/" if name.endswith("/") else path


def why_not(path: str) -> str | None:
    """Why a file is passed over; None for a picture."""
    *_, name = names = path.split("/")
    if names[0] == "..":
        return OUTSIDE
    if any(map(is_hidden, names)):
        return HIDDEN
    stem, dot, letters = name.rpartition(".")
    ending = dot + letters.lower() if stem else ""
    if ending in endings():
        return None
    if ending in FOREIGN_ENDINGS:
        return f"{FOREIGN} ({ending})"
    return f"no picture ({ending})" if re.fullmatch(r"\.[a-z]\w{0,5}", ending) else "no picture"


def is_hidden(name: str) -> bool:
    """Of a file or folder: what systems keep for themselves, and what editors and file managers leave behind."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS or name.lower().startswith((".thumb", "_thumb"))


def pictures(entries: Iterable[Entry]) -> tuple[list[Any], Counts]:
    """The places of all pictures, wherever they lie, and the counts."""
    places: list[Any] = []
    passed: Counter[str] = Counter()
    for entry in entries:
        if entry.is_folder:
            continue
        reason = entry.why_not()
        if reason is None:
            places.append(entry.place)
        else:
            passed[reason] += 1
    return places, Counts(len(places), dict(passed))


def by_part(entries: Sequence[Entry], *, where: object) -> tuple[dict[str, list[Entry]], Counts]:
    """Entries with paths from their part on, by part, train first, or all of them under WHOLE; and what lies beside the parts."""
    entries, beside = _unwrapped(entries)
    tops = {entry.path.partition("/")[0] for entry in entries if "/" in entry.path}
    labelled = any(entry.label is not None for entry in entries)
    parts = find_parts((top for top in tops if not is_hidden(top)), where=where, labelled=labelled)
    if not parts:
        return {WHOLE: list(entries)}, count_beside(beside)
    found: dict[str, list[Entry]] = {part: [] for part in parts}
    for entry in entries:
        top, _, rest = entry.path.partition("/")
        if top in found:
            found[top].append(entry._replace(path=rest))
        else:
            beside.append(entry)
    return found, count_beside(beside)


def find_parts(folders: Iterable[str], *, where: object, labelled: bool = False) -> tuple[str, ...]:
    """The parts among the names of the top folders, train first. None: the folders are classes, or all is labelled.

    Raises: DataError when all of them are nearly called like parts.
    """
    names = sorted(folders)
    parts = tuple(part for part in PARTS if part in names)
    if not parts and not labelled and len(names) > 1 and all(NEAR_PARTS.fullmatch(name) for name in names):
        raise DataError(
            f"{where} has the folders {some(names)}: they look like the parts of a data set, not like classes. "
            f"Call them train and test (or val)."
        )
    return parts


def near_parts(folders: Iterable[str]) -> list[str]:
    """Names that are meant for a part, perhaps, and are none."""
    return sorted(name for name in folders if name not in PARTS and NEAR_PARTS.fullmatch(name))


def arrange(
    entries: Iterable[Entry], *, where: object, class_names: Sequence[str] | None = None, beside: Counts | None = None
) -> Arranged:
    """Sort the entries of one part into classes.

    The class names of class folders are sorted; `class_names` (of the training part, say) only says how to spell them. Labels
    that the container tells are numbered by data.labels.number_labels. `beside` is added to the counts.

    Raises:
        DataError: no class folders, no pictures, a class without pictures, or only some of the pictures have labels.
    """
    passed: Counter[str] = Counter()
    taken: list[Entry] = []
    unsorted: list[Entry] = []
    folders: dict[str, int] = {}
    """Pictures by class folder."""
    for entry in entries:
        top, slash, _ = entry.path.partition("/")
        if slash and not is_hidden(top):
            folders.setdefault(top, 0)
        if entry.is_folder:
            continue
        reason = entry.why_not()
        if reason:
            passed[reason] += 1
        elif entry.label is not None or slash:
            taken.append(entry)
            folders[top] = folders.get(top, 0) + 1
        else:
            unsorted.append(entry)
    labels = [entry.label for entry in taken if entry.label is not None]
    notes: tuple[str, ...] = ()
    if labels:
        unlabelled = [*unsorted, *(entry for entry in taken if entry.label is None)]
        if unlabelled:
            raise DataError(f"{where}: {printable(unlabelled[0].path)} has no label, others have. Label all, or none.")
        names, numbers, notes = number_labels(labels, class_names, source=str(where))
    else:
        _check_folders(folders, unsorted, passed, where=where)
        spelling = one_spelling(map(printable, folders), class_names or ())
        names = tuple(sorted(set(spelling.values())))
        notes = spelling.notes
        place = {name: number for number, name in enumerate(names)}
        numbers = [place[spelling[printable(entry.path.partition("/")[0])]] for entry in taken]
        passed.update({BESIDE_CLASSES: len(unsorted)} if unsorted else {})
    counts = Counts.total([Counts(len(taken), dict(passed), notes), beside or Counts()])
    return Arranged(names, [entry.place for entry in taken], numbers, counts)


def _check_folders(folders: dict[str, int], unsorted: Sequence[Entry], passed: Counter[str], *, where: object) -> None:
    if not folders:
        found = (
            f"found pictures outside class folders such as {printable(unsorted[0].path)}"
            if unsorted
            else "no pictures are in it"
        )
        found += f" (passed over: {Counts(0, passed).reasons})" if passed else ""
        files = ", or KEY.cls beside KEY.jpg" if str(where).endswith(".tar") else ""
        raise DataError(f"{where} has no class folders: {found}. Expected {where}/CLASS/PICTURE.jpg{files}.")
    foreign = ", ".join(
        f"{number} {reason}" for reason, number in passed.items() if reason.startswith((FOREIGN, OUTSIDE))
    )
    expected = f"pictures end in {', '.join(sorted(endings()))}" + (f"; found {foreign}" if foreign else "")
    if not any(folders.values()):
        raise DataError(f"{where} holds no pictures in its {len(folders)} class folders ({some(folders)}); {expected}.")
    if all(name.lower() in NO_CLASSES for name in folders):
        raise DataError(
            f"{where} has the folder {some(folders)} where class folders are expected: {where}/CLASS/PICTURE.jpg. Where the "
            "labels stand in a file, give that list with --data, and the folder of the pictures with --root."
        )
    empty = sorted(map(printable, (name for name, number in folders.items() if not number)))
    if empty:
        raise DataError(
            f"{where} has class folders without pictures: {some(empty)}. Remove these folders, or fill them; {expected}."
        )


def _unwrapped(entries: Sequence[Entry]) -> tuple[Sequence[Entry], list[Entry]]:
    """The entries without the folders that hold everything else, as long as class folders, or parts, are left; and the rest."""
    beside: list[Entry] = []
    while True:
        found = [entry.path for entry in entries if not entry.is_folder and entry.why_not() is None]
        tops = {path.partition("/")[0] for path in found}
        if len(tops) != 1 or tops <= set(PARTS) or min(path.count("/") for path in found) < 2:
            return entries, beside
        wrapper = f"{tops.pop()}/"
        beside += [entry for entry in entries if not entry.path.startswith(wrapper)]
        entries = [e._replace(path=e.path[len(wrapper) :]) for e in entries if e.path.startswith(wrapper)]


def count_beside(beside: Iterable[Entry]) -> Counts:
    """What lies beside the parts, or beside a folder that holds everything else."""
    return Counts(0, dict(Counter(entry.why_not() or BESIDE_PARTS for entry in beside if not entry.is_folder)))
