"""Explanations of many pictures, each drawn to a file."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch import nn

from hybridvit.attribution.draw import head_grid, side_by_side
from hybridvit.attribution.explain import explain, options_of, preprocess_of
from hybridvit.attribution.explanation import Explanation
from hybridvit.data.decode import decode
from hybridvit.data.source import Source
from hybridvit.errors import ConfigError, DataError
from hybridvit.files import writing
from hybridvit.render.figures import save_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_files(
    models: Mapping[str, nn.Module],
    pictures: Source,
    out: Path,
    *,
    methods: Sequence[str] = ("attention",),
    every: str | None = None,
    arrays: bool = False,
    **options: Any,
) -> Iterator[tuple[Path, Explanation]]:
    """Draw every picture to out/NAME-KIND.png; gives each file and the first explanation in it, as they are written.

    Args:
        models: by name; two are drawn side by side.
        methods: as `explain` has them; several are drawn side by side, and each takes the options that it knows.
        every: "heads" or "stages": all of the block, or of the model.
        arrays: also write the maps, on the picture's pixels, as out/NAME-KIND.npz.
        options: query, stage, block, head, label of `explain`.

    Raises: ConfigError for options that do not go together; DataError for a picture that cannot be read or written.
    """
    if len(methods) > 1 and (every or len(models) > 1):
        raise ConfigError("--heads, --stages and --compare draw one method; choose one with --method.")
    stems = [Path(pictures.name(number)).stem for number in range(len(pictures))]
    for number, name in enumerate(_distinct(stems)):
        picture = _picture(pictures, number, channels=preprocess_of(next(iter(models.values()))).in_chans)
        kind, figure, explanations = _draw(models, picture, methods, every, options)
        file = out / f"{name}-{kind}.png"
        save_png(file, figure)
        if arrays:
            maps: dict[str, Any] = {f"heat_{k}": each.heat for k, each in enumerate(explanations)}
            maps["titles"] = np.array([each.title for each in explanations])
            with writing(file.with_suffix(".npz")) as temporary, temporary.open("wb") as stream:
                np.savez(stream, **maps)
        yield file, explanations[0]


def _draw(
    models: Mapping[str, nn.Module],
    picture: Image.Image,
    methods: Sequence[str],
    every: str | None,
    options: Mapping[str, Any],
) -> "tuple[str, Figure, list[Explanation]]":
    """What the file is called after, its figure, and what was computed for it."""
    first: Any = next(iter(models.values()))

    def explanation(method: str, model: nn.Module = first, **changes: Any) -> Explanation:
        # With several methods each takes what it knows; with one, what it does not know is an error.
        takes = options_of(method) if len(methods) > 1 else options.keys()
        known = {name: value for name, value in options.items() if name in takes}
        return explain(model, picture, method=method, **known | changes)  # type: ignore[arg-type]

    method = methods[0]
    if len(methods) > 1:
        several = [explanation(each) for each in methods]
        return "methods", side_by_side(several), several
    if len(models) > 1:
        several = [explanation(method, model) for model in models.values()]
        return f"{method}-compare", side_by_side(several, titles=list(models)), several
    if every == "stages":
        several = [explanation(method, stage=stage) for stage in range(len(first.stages))]
        return f"{method}-stages", side_by_side(several), several
    one = explanation(method)
    return (f"{method}-heads", head_grid(one), [one]) if every == "heads" else (method, one.figure(), [one])


def _picture(pictures: Source, number: int, *, channels: int) -> Image.Image:
    name = pictures.name(number)
    try:
        data = pictures.read(number)
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}.") from error
    return decode(data, name=name, channels=channels)


def _distinct(names: Sequence[str]) -> Iterator[str]:
    """The same name a second time gets a number."""
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name}-{seen[name]}"
