"""COCO's JSON: images, annotations, categories."""

import json
import math
from pathlib import Path
from typing import Any

from hybridvit.data.detection.raw import Findings, RawObject, RawPicture, RawPictures
from hybridvit.errors import DataError

NONE = math.nan


def read_coco(file: Path, folder: Path) -> RawPictures:
    """Raises: DataError when the file is no such JSON; faults of single entries are left to `tidy`."""
    try:
        contents = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read as JSON: {error}.") from error
    if not isinstance(contents, dict) or not all(
        isinstance(contents.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise DataError(f"{file} is no COCO file: it needs the lists images, annotations and categories.")
    findings = Findings()
    pictures: dict[Any, RawPicture] = {}
    try:
        categories = _categories(contents["categories"], file)
        for image in contents["images"]:
            if _key(image["id"]) in pictures:
                findings.refuse("pictures whose id another one has: number them anew", str(image["file_name"]))
            pictures[_key(image["id"])] = RawPicture(str(image["file_name"]), _size(image))
        for number, annotation in enumerate(contents["annotations"]):
            where = f"annotation {annotation.get('id', f'at place {number}')}"
            if annotation.get("id") == 0:
                findings.mend(
                    "annotations of id 0, which other evaluators take for nothing found: used as any other", where
                )
            picture = pictures.get(_key(annotation["image_id"]))
            if picture is None:
                findings.refuse("annotations of a picture that is not listed: remove them", where)
            else:
                picture.objects.append(_object(annotation, where))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is no COCO file: an entry lacks {error}.") from error
    return RawPictures(
        file=file, folder=folder, categories=categories, pictures=list(pictures.values()), findings=findings
    )


def _categories(entries: list[Any], file: Path) -> dict[Any, str]:
    categories: dict[Any, str] = {}
    for entry in entries:
        if _key(entry["id"]) in categories:
            raise DataError(f"{file} gives two categories the id {entry['id']!r}. Number them anew.")
        categories[_key(entry["id"])] = str(entry["name"])
    return categories


def _object(annotation: dict[str, Any], where: str) -> RawObject:
    box = annotation.get("bbox")
    outline = annotation.get("segmentation")
    if not (isinstance(box, list | tuple) and len(box) == 4 and all(isinstance(value, int | float) for value in box)):
        box = (NONE, NONE, NONE, NONE) if box else _around(outline)
    left, top, width, height = box
    return RawObject(
        where=where,
        category=_key(annotation["category_id"]),
        box=(left, top, left + width, top + height),
        outline=outline,
        crowd=bool(annotation.get("iscrowd", 0)),
        area=annotation.get("area"),
    )


def _around(outline: Any) -> tuple[float, float, float, float]:
    """The box of polygons, where an annotation has none: x, y, width, height."""
    try:
        x = [value for polygon in outline for value in polygon[0::2]]
        y = [value for polygon in outline for value in polygon[1::2]]
        return min(x), min(y), max(x) - min(x), max(y) - min(y)
    except (TypeError, ValueError):
        return NONE, NONE, NONE, NONE


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    rows, columns = image.get("height"), image.get("width")
    return (int(rows), int(columns)) if rows and columns else None


def _key(value: Any) -> Any:
    """Ids are numbers, or texts of them."""
    return value if isinstance(value, int) else str(value)
