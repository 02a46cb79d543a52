"""The report of one model on one set of pictures: a single HTML file that loads nothing.

Score, calibration, confusion and classes; the best, the worst and the most doubtful pictures, with maps of what the model looked
at; its size and speed here; where it came from.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from PIL.Image import Image
from torch import nn
from torch.utils.benchmark import Timer

from hybridvit.attribution.explain import explain, preprocess_of
from hybridvit.attribution.explanation import Method
from hybridvit.data.decode import decode
from hybridvit.deploy.steps import count_gmacs
from hybridvit.evaluation.logits import Result
from hybridvit.evaluation.metric import Result as AnyResult
from hybridvit.evaluation.metrics import softmax
from hybridvit.output import to_json
from hybridvit.render.page import Thumbnail, folded, note, page, pictures, preformatted, section, table, tiles

SIDE = 150
"""Pixels of a picture on the page."""
TIMED_SECONDS = 2.0
"""How long each speed is measured at least."""


def choose(result: Result, count: int) -> dict[str, np.ndarray]:
    """Numbers of the pictures to show: surest and right, surest and wrong, nearest to a tie."""
    ordered = np.sort(softmax(result.logits), axis=1)
    sure, lead = ordered[:, -1], ordered[:, -1] - ordered[:, -2]
    right = np.flatnonzero(result.logits.argmax(axis=1) == result.labels)
    return {
        "best": right[np.argsort(-sure[right], kind="stable")][:count],
        "worst": result.mistakes()[:count],
        "doubtful": np.argsort(lead, kind="stable")[:count],
    }


def model_page(
    model: nn.Module,
    result: Result,
    *,
    title: str,
    data_name: str,
    about: Mapping[str, object],
    method: Method = "occlusion",
    count: int = 6,
    on_picture: Callable[[int], None] = lambda _: None,
) -> str:
    """The page of a classifier. `about`: origin, recipe ... by name.

    `on_picture` is called with the number of pictures explained so far.
    """
    source, chosen = result.source, choose(result, count)
    assert source is not None, "answers from a file have no pictures to explain"
    shown: dict[int, Thumbnail] = {}
    for number in dict.fromkeys(np.concatenate(list(chosen.values())).tolist()):
        shown[number] = _thumbnail(model, source.read(result.numbers[number]), result, number, method=method)
        on_picture(len(shown))

    map_words = f"Below each: {_MAP_WORDS[method]}"

    def row(title: str, kind: str, *, none: str = "", words: str = "") -> Markup:
        few = [shown[number] for number in chosen[kind].tolist()]
        return section(title, pictures(few, side=SIDE) if few else note(none), note=words)

    return page(
        title,
        tiles(result.tiles()),
        row(
            "Its worst mistakes",
            "worst",
            none="It made none.",
            words=f"The most confident first. {map_words}",
        ),
        row("Most doubtful", "doubtful", words="Where the two most probable classes are nearest."),
        row("Surest and right", "best", none="It was never right."),
        *result.sections(),
        section("Size and speed", table(["what", "how much"], [[*each] for each in size_and_speed(model).items()])),
        section("Where it came from", _origin(about)),
        _not_read(result.broken),
        subtitle=f"on {result.metrics.images} pictures of {data_name}",
    )


def result_page(
    result: AnyResult, broken: Sequence[str], *, title: str, data_name: str, about: Mapping[str, object]
) -> str:
    """The page of any task: what its result shows of itself."""
    return page(
        title,
        Markup(result._repr_html_()),
        section("Where it came from", _origin(about)),
        _not_read(broken),
        subtitle=f"on {data_name}",
    )


def _not_read(broken: Sequence[str]) -> Markup:
    return section("Not read", preformatted("\n".join(broken))) if broken else Markup()


_MAP_WORDS: dict[Method, str] = {
    "attention": "what the last block reads.",
    "rollout": "what the decision draws on (rollout).",
    "gradcam": "what speaks for the model's answer (Grad-CAM).",
    "gradients": "what speaks for (red) and against (blue) the model's answer (integrated gradients).",
    "occlusion": "red where covering the picture hurts the model's answer, blue where it helps (occlusion).",
}


def _thumbnail(model: nn.Module, data: bytes | Image, result: Result, number: int, *, method: Method) -> Thumbnail:
    """A picture, its map and what is said of it."""
    name = result.paths[number]
    picture = decode(data, name=name, channels=preprocess_of(model).in_chans)
    found = explain(model, picture, method=method).sized(2 * SIDE)
    probabilities = softmax(result.logits[number : number + 1])[0]
    true, answer = int(result.labels[number]), int(probabilities.argmax())
    verdict = f"{result.class_names[answer]} ({100 * probabilities[answer]:.1f} %)"
    if true != answer:
        verdict += f", is {result.class_names[true]} ({100 * probabilities[true]:.1f} %)"
    return Thumbnail([found.view.picture, found.blend()], verdict, Path(name).name, right=true == answer)


def size_and_speed(model: nn.Module) -> dict[str, object]:
    """Parameters, operations and time of one picture, on the model's own device."""
    parameter, preprocess = next(model.parameters()), preprocess_of(model)
    shape = (preprocess.in_chans, *preprocess.image_size)
    one = torch.zeros(1, *shape, dtype=parameter.dtype, device=parameter.device)
    device = torch.cuda.get_device_name(parameter.device) if parameter.is_cuda else f"{parameter.device}"
    threads = "" if parameter.is_cuda else f", {torch.get_num_threads()} threads"
    return {
        "parameters": f"{sum(each.numel() for each in model.parameters()) / 1e6:.2f} million",
        "multiply-accumulates": f"{count_gmacs(model, preprocess.image_size):.2f} billion per picture",
        "input": f"{shape[1]} x {shape[2]} pixels, {shape[0]} channels",
        "one picture alone": f"{1000 * _seconds(model, one):.1f} ms ({device}{threads})",
        "in batches of 16": f"{16 / _seconds(model, one.expand(16, *shape).contiguous()):.0f} pictures per second",
    }


@torch.inference_mode()
def _seconds(model: nn.Module, x_BCHW: torch.Tensor) -> float:
    """The median time of a forward pass."""
    timer = Timer("model(x)", globals={"model": model, "x": x_BCHW}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=TIMED_SECONDS).median


def _origin(about: Mapping[str, object]) -> Markup:
    """Plain facts as a table, nested ones folded away."""
    plain = [[key, value] for key, value in about.items() if not isinstance(value, Mapping) and value is not None]
    nested = {key: dict(value) for key, value in about.items() if isinstance(value, Mapping)}
    return table(["what", ""], plain) + Markup().join(
        folded(key, preformatted(to_json(value))) for key, value in nested.items()
    )


def about_checkpoint(path: Path, found: Any) -> dict[str, object]:
    """What a checkpoint's header says of its making. `found`: weights.checkpoint.Checkpoint."""
    return {
        "file": path.name,
        "size": f"{path.stat().st_size / 1e6:.1f} MB" if path.is_file() else None,
        "architecture": found.architecture,
        "classes": found.num_classes,
        "origin": found.origin,
        "recipe": found.recipe,
        "metrics when it was saved": found.metrics,
    }
