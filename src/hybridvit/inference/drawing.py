"""Pictures with what a model says drawn on them, by the task's own drawing."""

from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import torch
from PIL.Image import Image

from hybridvit.data.decode import decode
from hybridvit.errors import DataError
from hybridvit.inference.pictures import Pictures, open_pictures
from hybridvit.inference.predictor import Predictor


def draw_predictions(
    predictor: Predictor,
    pictures: Pictures,
    folder: str | Path,
    *,
    say: Callable[[Image], Any] | None = None,
    root: Path | None = None,
    on_picture: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Write FOLDER/NAME.png for each picture that can be read; of pictures of one name, the later ones get a number.

    say: the prediction of a picture, where it is not the predictor's own: Tiles.said.

    Raises: DataError when the folder cannot be written.
    """
    source, folder = open_pictures(pictures, root=root), Path(folder)
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(len(source)):
            name = source.name(index)
            try:
                data = source.read(index)
                picture = decode(
                    data, name=name, channels=predictor.preprocess.in_chans, max_pixels=predictor.max_pixels
                )
            except (DataError, OSError):
                continue  # the predictions say why
            said = say(picture) if say else _said(predictor, picture)
            stem = PurePath(name).stem
            file = folder / f"{stem}.png"
            file = folder / f"{stem}-{index}.png" if file in written else file
            predictor.task.draw(picture, said, predictor.class_names).save(file)
            written.append(file)
            on_picture(index + 1, len(source))
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error}") from error
    return written


def _said(predictor: Predictor, picture: Image) -> Any:
    image, frame = predictor.transform(picture)
    (said,) = predictor.said(predictor.task.collate([image], empty=torch.empty), [frame])
    return said
