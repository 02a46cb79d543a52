"""The same pictures written as every kind of data set."""

import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path


def as_folder(root: Path, to: Path) -> Path:
    return Path(shutil.copytree(root, to))


def as_lists(root: Path, to: Path) -> Path:
    shutil.copytree(root, to)
    for part in ("train", "test"):
        lines = [f"{path.relative_to(to)}, {path.parent.name}" for path in sorted((to / part).rglob("*.png"))]
        (to / f"{part}.csv").write_text("\n".join(lines))
        (to / part).rename(to / f"pictures_of_{part}")
        text = (to / f"{part}.csv").read_text()
        (to / f"{part}.csv").write_text(text.replace(f"{part}/", f"pictures_of_{part}/"))
    return to


def as_zip(root: Path, to: Path) -> Path:
    path = to.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for picture in sorted(root.rglob("*.png")):
            archive.write(picture, Path("wrapper") / picture.relative_to(root))
    return path


def as_zips(root: Path, to: Path) -> Path:
    to.mkdir()
    for part in ("train", "test"):
        with zipfile.ZipFile(to / f"{part}.zip", "w") as archive:
            for picture in sorted((root / part).rglob("*.png")):
                archive.write(picture, picture.relative_to(root / part))
    return to


def as_shards(root: Path, to: Path, *, label: str = "cls", per_shard: int = 7) -> Path:
    """label: cls, json or folder."""
    to.mkdir()
    for part in ("train", "test"):
        pictures = sorted((root / part).rglob("*.png"))
        for start in range(0, len(pictures), per_shard):
            with tarfile.open(to / f"{part}-{start // per_shard:06d}.tar", "w") as shard:
                for number, path in enumerate(pictures[start : start + per_shard], start=start):
                    key = f"{path.parent.name}/{number:05d}" if label == "folder" else f"{number:05d}"
                    _add(shard, f"{key}.png", path.read_bytes())
                    if label == "cls":
                        _add(shard, f"{key}.cls", path.parent.name.encode())
                    elif label == "json":
                        _add(shard, f"{key}.json", json.dumps({"label": path.parent.name, "other": 1}).encode())
    return to


def as_shards_by_json(root: Path, to: Path) -> Path:
    return as_shards(root, to, label="json")


def as_shards_by_folder(root: Path, to: Path) -> Path:
    return as_shards(root, to, label="folder", per_shard=100)


def as_huggingface(root: Path, to: Path) -> Path:
    import datasets

    names = sorted(folder.name for folder in (root / "train").iterdir())
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=names)})
    parts = {}
    for part in ("train", "test"):
        paths = sorted((root / part).rglob("*.png"))
        rows = {
            "picture": [{"bytes": path.read_bytes(), "path": None} for path in paths],
            "kind": [names.index(path.parent.name) for path in paths],
        }
        parts[part] = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(parts).save_to_disk(str(to))
    return to


KINDS = {
    "folder": as_folder,
    "lists": as_lists,
    "zip": as_zip,
    "zips": as_zips,
    "shards with .cls": as_shards,
    "shards with .json": as_shards_by_json,
    "shards of class folders": as_shards_by_folder,
    "Hugging Face": as_huggingface,
}


def _add(shard: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    shard.addfile(info, io.BytesIO(data))
