"""One call from a model and a picture to a map on the picture."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from hybridvit.attribution import methods
from hybridvit.attribution.explanation import METHODS, Explanation, Method
from hybridvit.attribution.geometry import PIXELS, Axes, View, view
from hybridvit.attribution.record import AttentionMap, Site, record, sites
from hybridvit.attribution.rollout import rollout
from hybridvit.config import Preprocess
from hybridvit.data.decode import decode
from hybridvit.errors import CheckpointError, ConfigError, DataError
from hybridvit.models.backbone import Backbone
from hybridvit.models.position import Grid
from hybridvit.runtime import in_eval_mode
from hybridvit.weights.load import load


def explain(
    model: nn.Module | str | Path,
    picture: Image.Image | str | Path | View,
    *,
    method: Method = "attention",
    query: tuple[float, float] | None = None,
    stage: int | None = None,
    block: int | None = None,
    head: int | None = None,
    label: int | str | None = None,
) -> Explanation:
    """What a model looks at in one picture. The model is asked in eval mode and left in the mode that it had.

    Args:
        model: a model from `hybridvit.load`, or the path of a checkpoint.
        picture: a path, a picture of Pillow's, or what `view` made of one.
        method: attention (the weights of one block), rollout (attention followed through all blocks), gradcam, gradients
            (integrated gradients) or occlusion. The last three explain one class.
        query: x and y in pixels of the picture: show what this place reads (attention, rollout). Without it, what the class token
            reads, or where there is none, what all places read on average.
        stage: for attention and gradcam; from 0; the last unless given.
        block, head: for attention; from 0; the last block and the mean of the heads unless given.
        label: the class, by name or number (gradcam, gradients, occlusion); the model's answer unless given.

    Raises: ConfigError for an option that the model or the method does not have; DataError, CheckpointError for the files.
    """
    _check_options(method, query=query, stage=stage, block=block, head=head, label=label)
    network = load(model) if isinstance(model, str | Path) else model
    _check_model(network, method)
    preprocess = preprocess_of(network)
    if isinstance(picture, str | Path):
        picture = read_picture(picture, channels=preprocess.in_chans)
    seen = picture if isinstance(picture, View) else view(picture, preprocess)
    parameter = next(network.parameters())
    axes = PIXELS
    with in_eval_mode(network), torch.inference_mode(False):
        x_1CHW = seen.input_1CHW.to(parameter.device, parameter.dtype, copy=True)
        probabilities = _probabilities(network, x_1CHW)
        class_names = names_of(network, len(probabilities))
        number = _class_number(label, class_names, probabilities)
        title = f"for {class_names[number]!r}"
        if method == "attention":
            site = _choose_site(sites(network, seen.input_size), stage, block)
            attention = record(network, x_1CHW)[site.index]
            map_hrc, source, axes = _attention(attention, seen, query=query, head=head)
            heads = "mean of the heads" if head is None else f"head {head}"
            title, unit = f"{source} · {site.name} · {heads}", "share of attention per key"
        elif method == "rollout":
            maps = record(network, x_1CHW)
            start = None if query is None else _token(seen, query, maps[-1])
            map_hrc, axes = rollout(network, maps, start=start), maps[0].query_axes
            source = "decision" if query is None else f"point {_point(query)}"
            title, unit = f"Rollout · what the {source} draws on", "share per token"
        elif method == "gradcam":
            site = _choose_site(sites(network, seen.input_size), stage, None)
            map_hrc = methods.gradcam(network, x_1CHW, label=number, stage=site.stage, grid=site.query_grid)[None]
            title, unit, axes = f"Grad-CAM · {title} · stage {site.stage}", "feature x gradient", site.query_axes
        elif method == "gradients":
            map_hrc = methods.integrated_gradients(network, x_1CHW, label=number)[None]
            title, unit = f"Integrated gradients · {title}", "part of the logit per pixel"
        else:
            map_hrc = methods.occlusion(network, x_1CHW, label=number)[None]
            title, unit = f"Occlusion · {title}", "fall of the logit when covered"
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


@torch.no_grad()
def _probabilities(model: nn.Module, x_1CHW: Tensor) -> np.ndarray:
    """Raises: ConfigError for a model that names no class, CheckpointError for damaged weights."""
    logits = model(x_1CHW)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or not getattr(model, "num_classes", 1):
        raise ConfigError(
            "The model gives features, not a value per class; explain one that has its head and its pooling."
        )
    if not logits.isfinite().all():
        raise CheckpointError(
            "The model's values per class are not finite: its weights are damaged, or half precision overflowed."
        )
    return logits[0].double().softmax(dim=0).cpu().numpy()


def preprocess_of(model: nn.Module) -> Preprocess:
    """What the model's pictures go through: its checkpoint's, or its architecture's. Raises: ConfigError where neither says."""
    found = getattr(model, "preprocess", None) or getattr(model, "pretrained_cfg", None)
    if not found:
        raise ConfigError(
            f"{type(model).__name__} does not say how its pictures are prepared. Set its attribute preprocess."
        )
    return found if isinstance(found, Preprocess) else Preprocess.from_pretrained_cfg(found)


def read_picture(path: str | Path, *, channels: int) -> Image.Image:
    """Raises: DataError when it is missing or no picture."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    return decode(data, name=str(path), channels=channels)


def names_of(model: nn.Module, num_classes: int) -> tuple[str, ...]:
    """Class names in the order of the logits; numbers where the checkpoint has none."""
    names: Any = getattr(model, "label_names", None) or ()
    return tuple(names if len(names) == num_classes else map(str, range(num_classes)))


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


def _check_model(model: Any, method: str) -> None:
    """Only occlusion asks for nothing but answers; the others look inside, or need gradients that fused kernels do not have."""
    if not isinstance(model, nn.Module) or (method != "occlusion" and not isinstance(model, Backbone)):
        raise ConfigError(
            f"{method} looks into a CvT or CMT as hybridvit.load and hybridvit.create_model give them; this is a "
            f"{type(model).__name__}. Explain the model that it was made from, which answers alike, or take occlusion."
        )


def _check_options(method: str, **options: Any) -> None:
    """An option that would do nothing is refused, with those that the method takes."""
    takes = options_of(method)
    useless = [name for name, value in options.items() if value is not None and name not in takes]
    if useless:
        raise ConfigError(f"{method} knows no {', '.join(useless)}; it takes {', '.join(sorted(takes))}.")


def _choose_site(places: list[Site], stage: int | None, block: int | None) -> Site:
    """The last of the stage's blocks, and the last stage, unless given."""
    stage = _index("stage", stage, count=places[-1].stage + 1)
    within = [site for site in places if site.stage == stage]
    return within[_index(f"block of stage {stage}", block, count=len(within))]


def _index(what: str, number: int | None, *, count: int) -> int:
    """Raises: ConfigError for a number that is out of range; negative ones mean nothing."""
    if number is not None and not 0 <= number < count:
        raise ConfigError(f"There is no {what} {number}: the model has {count}, numbered 0 to {count - 1}.")
    return count - 1 if number is None else number


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
        map_hrc = map_hrc[_index("head", head, count=len(map_hrc))][None]
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
