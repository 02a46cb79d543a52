"""One call from a model and a picture to a map on the picture.

h heads, r rows and c columns of a grid, H rows and W columns of the picture.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from hybridvit.config import Preprocess
from hybridvit.data.decode import decode
from hybridvit.errors import ConfigError, DataError
from hybridvit.explain import attribution
from hybridvit.explain.geometry import PIXELS, Axes, View, view
from hybridvit.explain.record import AttentionMap, Site, record, sites
from hybridvit.explain.rollout import rollout
from hybridvit.models.position import Grid
from hybridvit.weights import checkpoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Method = Literal["attention", "rollout", "gradcam", "gradients", "occlusion"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A map, what it shows, and what the model says about the picture."""

    method: Method
    title: str
    """What is shown, in words."""
    unit: str
    """What a value of the map means."""
    map_hrc: np.ndarray
    """The map on the model's own grid, per head; one "head" where the method knows none."""
    axes: Axes
    """Where that grid lies in the input."""
    view: View
    query: tuple[float, float] | None
    """x and y of the point that was looked from, in pixels of the picture."""
    label: int
    """The class that was asked about; by default the model's answer."""
    class_names: tuple[str, ...]
    probabilities: np.ndarray
    """Of all classes."""

    @cached_property
    def heat(self) -> np.ndarray:
        """The map on the picture, heads averaged; 0 where the model's crop left the picture out. Shape: (H, W)."""
        return self.view.to_picture(self.map_hrc.mean(axis=0), self.axes)

    @property
    def heads(self) -> np.ndarray:
        """The map of each head on the picture. Shape: (h, H, W)."""
        return self.view.to_picture(self.map_hrc, self.axes)

    @property
    def is_signed(self) -> bool:
        """Whether values below zero speak against the class."""
        return self.method in ("gradients", "occlusion")

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k most probable classes, by name."""
        return [(self.class_names[i], float(self.probabilities[i])) for i in np.argsort(-self.probabilities)[:k]]

    def sized(self, side: int) -> "Explanation":
        """The same on a picture whose longer side has about `side` pixels."""
        other = self.view.sized(side)
        (height, width), (rows, columns) = self.view.size, other.size
        query = self.query and (
            (self.query[0] + 0.5) * columns / width - 0.5,
            (self.query[1] + 0.5) * rows / height - 0.5,
        )
        return replace(self, view=other, query=query)

    def figure(self) -> "Figure":
        """Picture and map, side by side. Needs matplotlib (the extra viz)."""
        from hybridvit.explain.draw import overlay

        return overlay(self)


def explain(
    model: nn.Module | str | Path,
    picture: Image.Image | str | Path,
    *,
    method: Method = "attention",
    query: tuple[float, float] | None = None,
    stage: int | None = None,
    block: int | None = None,
    head: int | None = None,
    label: int | str | None = None,
) -> Explanation:
    """What a model looks at in one picture.

    Args:
        model: a model from `hybridvit.load`, or the path of a checkpoint.
        picture: a path, or a picture of Pillow's.
        method: attention (the weights of one block), rollout (attention followed through all blocks), gradcam, gradients
            (integrated gradients) or occlusion. The last three explain one class.
        query: x and y in pixels of the picture: show what this place reads (attention, rollout). Without it, what the class token
            reads, or where there is none, what all places read on average.
        stage: for attention and gradcam; from 0, negative from the end; the last unless given.
        block, head: for attention; the last block and the mean of the heads unless given.
        label: the class, by name or number (gradcam, gradients, occlusion); the model's answer unless given.

    Raises: ConfigError for an option that the model or the method does not have; DataError, CheckpointError for the files.
    """
    network = checkpoint.load(model) if isinstance(model, str | Path) else model
    preprocess = preprocess_of(network)
    if not isinstance(picture, Image.Image):
        picture = read_picture(picture, channels=preprocess.in_chans)
    return explain_view(
        network,
        view(picture, preprocess),
        method=method,
        query=query,
        stage=stage,
        block=block,
        head=head,
        label=label,
    )


def explain_view(
    model: nn.Module,
    seen: View,
    *,
    method: Method = "attention",
    query: tuple[float, float] | None = None,
    stage: int | None = None,
    block: int | None = None,
    head: int | None = None,
    label: int | str | None = None,
) -> Explanation:
    """As `explain`, for a picture that went through the model's preprocessing already."""
    _check(method, query=query, stage=stage, block=block, head=head, label=label)
    model.eval()
    parameter = next(model.parameters())
    x_1CHW = seen.input_1CHW.to(parameter.device, parameter.dtype)
    with torch.no_grad():
        probabilities = model(x_1CHW)[0].double().softmax(dim=0).cpu().numpy()
    class_names = names_of(model, len(probabilities))
    number = _class_number(label, class_names, probabilities)
    places = sites(model, (x_1CHW.shape[2], x_1CHW.shape[3]))

    axes = PIXELS
    if method == "attention":
        site = _choose_site(places, stage, block)
        attention = record(model, x_1CHW)[places.index(site)]
        map_hrc, source, axes = _attention(attention, seen, query=query, head=head)
        heads = "mean of the heads" if head is None else f"head {head}"
        title, unit = f"{source} · {site.name} · {heads}", "share of attention per key"
    elif method == "rollout":
        start = None if query is None else _token(seen, query, places[-1])
        map_hrc, axes = rollout(model, record(model, x_1CHW), start=start), places[0].query_axes
        source = "decision" if query is None else f"point {_point(query)}"
        title, unit = f"Rollout · what the {source} draws on", "share per token"
    else:
        title = f"for {class_names[number]!r}"
        if method == "gradcam":
            site = _choose_site(places, stage, None)
            map_rc = attribution.gradcam(model, x_1CHW, label=number, stage=site.stage, grid=site.query_grid)
            title, unit, axes = f"Grad-CAM · {title} · stage {site.stage}", "feature x gradient", site.query_axes
        elif method == "gradients":
            map_rc = attribution.integrated_gradients(model, x_1CHW, label=number)
            title, unit = f"Integrated gradients · {title}", "part of the logit per pixel"
        else:
            map_rc = attribution.occlusion(model, x_1CHW, label=number)
            title, unit = f"Occlusion · {title}", "fall of the logit when covered"
        map_hrc = map_rc[None]
    return Explanation(
        method=method,
        title=title,
        unit=unit,
        map_hrc=map_hrc.float().cpu().numpy(),
        axes=axes,
        view=seen,
        query=query,
        label=number,
        class_names=class_names,
        probabilities=probabilities,
    )


def preprocess_of(model: nn.Module) -> Preprocess:
    """What the model's pictures go through: its checkpoint's, or its architecture's."""
    return getattr(model, "preprocess", None) or Preprocess.from_pretrained_cfg(model.pretrained_cfg)  # type: ignore[arg-type]


def read_picture(path: str | Path, *, channels: int) -> Image.Image:
    """Raises: DataError when it is missing or no picture."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    return decode(data, name=str(path), channels=channels)


def names_of(model: nn.Module, num_classes: int) -> tuple[str, ...]:
    """Class names in the order of the logits; numbers where the checkpoint has none."""
    names: Any = getattr(model, "label_names", None)
    return tuple(names or map(str, range(num_classes)))


_TAKES: dict[Method, frozenset[str]] = {
    "attention": frozenset({"query", "stage", "block", "head"}),
    "rollout": frozenset({"query"}),
    "gradcam": frozenset({"stage", "label"}),
    "gradients": frozenset({"label"}),
    "occlusion": frozenset({"label"}),
}


def options_of(method: str) -> frozenset[str]:
    """The options of `explain` that a method takes. Raises: ConfigError for an unknown method."""
    if method not in METHODS:
        raise ConfigError(f"There is no method {method!r}. Choose {', '.join(METHODS)}.")
    return _TAKES[method]


def _check(method: str, **options: Any) -> None:
    """An option that would do nothing is refused, with those that the method takes."""
    takes = options_of(method)
    useless = [name for name, value in options.items() if value is not None and name not in takes]
    if useless:
        raise ConfigError(f"{method} knows no {', '.join(useless)}; it takes {', '.join(sorted(takes))}.")


def _choose_site(places: list[Site], stage: int | None, block: int | None) -> Site:
    by_stage: dict[int, list[Site]] = {}
    for site in places:
        by_stage.setdefault(site.stage, []).append(site)
    chosen = by_stage[_index("stage", -1 if stage is None else stage, len(by_stage))]
    return chosen[_index(f"block of stage {chosen[0].stage}", -1 if block is None else block, len(chosen))]


def _index(what: str, number: int, count: int) -> int:
    if not -count <= number < count:
        raise ConfigError(f"There is no {what} {number}: the model has {count}, numbered 0 to {count - 1}.")
    return number % count


def _class_number(label: int | str | None, class_names: tuple[str, ...], probabilities: np.ndarray) -> int:
    if label is None:
        return int(probabilities.argmax())
    if isinstance(label, str) and label in class_names:
        return class_names.index(label)
    if str(label).isdecimal() and int(label) < len(class_names):
        return int(label)
    known = ", ".join(class_names[:10]) + (" ..." if len(class_names) > 10 else "")
    raise ConfigError(f"The model knows no class {label!r}. Give a number below {len(class_names)} or one of {known}.")


def _attention(
    attention: AttentionMap, seen: View, *, query: tuple[float, float] | None, head: int | None
) -> tuple[Tensor, str, Axes]:
    """The chosen weights per head, in words whose they are, and where the keys lie."""
    if query is not None:
        map_1hrc, source = (
            attention.from_query(*_token(seen, query, attention)),
            f"What the point {_point(query)} reads",
        )
    elif attention.has_class_token:
        map_1hrc, source = attention.from_class_token(), "What the class token reads"
    else:
        map_1hrc, source = attention.from_everywhere(), "What all places read"
    map_hrc = map_1hrc[0]
    if head is not None:
        map_hrc = map_hrc[_index("head", head, len(map_hrc))][None]
    return map_hrc, source, attention.key_axes


def _token(seen: View, query: tuple[float, float], site: Site) -> Grid:
    """The token nearest to a point of the picture."""
    height, width = seen.size
    token = seen.to_token(*query, site.query_axes, site.query_grid)
    if token is None:
        raise ConfigError(
            f"The point {_point(query)} is not in what the model sees of this picture of {width} x {height} pixels. "
            "Choose one within its crop."
        )
    return token


def _point(query: tuple[float, float]) -> str:
    return f"({query[0]:.0f}, {query[1]:.0f})"
