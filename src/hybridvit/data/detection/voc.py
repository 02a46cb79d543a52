"""Pascal VOC: one XML file per picture."""

import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from hybridvit.data.detection.raw import Findings, RawObject, RawPicture, RawPictures
from hybridvit.errors import DataError

MAX_BYTES = 1 << 24


def read_voc(folder: Path, files: Sequence[Path], pictures: Path) -> RawPictures:
    """folder: for messages. files: the XML files. pictures: the folder of what their `filename` names.

    VOC counts pixels from 1, and a box's last pixel belongs to it. An object marked difficult is neither learnt nor counted.
    Classes are in alphabetical order.

    Raises: DataError when a file is no such XML.
    """
    findings = Findings()
    found = [_picture(file, pictures, findings) for file in sorted(files)]
    names = sorted({str(each.category) for picture in found for each in picture.objects})
    return RawPictures(
        file=folder, folder=pictures, categories={name: name for name in names}, pictures=found, findings=findings
    )


def _picture(file: Path, pictures: Path, findings: Findings) -> RawPicture:
    try:
        data = file.read_bytes()
        if len(data) > MAX_BYTES or b"<!ENTITY" in data or b"<!DOCTYPE" in data:
            raise DataError(f"{file} declares entities or is larger than an annotation can be: it is not read.")
        root = ElementTree.fromstring(data)
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"{file} cannot be read as XML: {error}.") from error
    name = (root.findtext("filename") or "").strip().replace("\\", "/").rpartition("/")[2]
    if not (pictures / name).is_file():  # tools rename pictures, and leave the old name inside
        beside = [path for path in pictures.glob(f"{_literal(file.stem)}.*") if path.suffix.lower() != ".xml"]
        if len(beside) == 1:
            findings.mend("pictures that their file calls otherwise: the one of the same stem is taken", file.name)
            name = beside[0].name
    picture = RawPicture(name or file.stem, _size(root))
    for number, entry in enumerate(root.iter("object"), start=1):
        where = f"{file.name}, object {number}"
        difficult = (entry.findtext("difficult") or "0").strip() == "1"
        if difficult:
            findings.mend("objects marked difficult: neither learnt nor counted", where)
        picture.objects.append(RawObject(where, (entry.findtext("name") or "").strip(), _box(entry), crowd=difficult))
    return picture


def _literal(text: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    try:
        rows, columns = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
    except ValueError:
        return None
    return (rows, columns) if rows > 0 and columns > 0 else None


def _box(entry: ElementTree.Element) -> tuple[float, float, float, float]:
    try:
        left, top, right, bottom = (
            float(entry.findtext(f"bndbox/{side}") or math.nan) for side in ("xmin", "ymin", "xmax", "ymax")
        )
    except ValueError:
        return (math.nan,) * 4
    return left - 1, top - 1, right, bottom
