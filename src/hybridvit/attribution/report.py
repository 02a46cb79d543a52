"""The report of one model on one set of pictures: a single HTML file that loads nothing.

Score, calibration, confusion and classes; the best, the worst and the most doubtful pictures, with maps of what the model looked
at; its size and speed here; where it came from.
"""

import json
import time
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hybridvit.attribution.draw import blend
from hybridvit.attribution.explain import explain, preprocess_of
from hybridvit.attribution.explanation import Method
from hybridvit.data.decode import decode
from hybridvit.data.source import Source
from hybridvit.evaluate.calibration import reliability
from hybridvit.evaluate.logits import Result
from hybridvit.evaluate.metrics import softmax
from hybridvit.evaluate.page import (
    charts,
    folded,
    heat_map,
    line_chart,
    page,
    picture_uri,
    preformatted,
    section,
    table,
    tiles,
)
from hybridvit.models.attention import explicit_attention

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


def build_report(
    model: nn.Module,
    result: Result,
    source: Source,
    *,
    title: str,
    data_name: str,
    about: Mapping[str, object],
    method: Method = "occlusion",
    count: int = 6,
    on_picture: Callable[[int], None] = lambda _: None,
) -> str:
    """The page. `source`: what `result` was computed from. `about`: origin, recipe ... by name.

    `on_picture` is called with the number of pictures explained so far.
    """
    metrics, chosen = result.metrics, choose(result, count)
    numbers = {source.name(index): index for index in range(len(source))}
    shown: dict[int, str] = {}
    for number in dict.fromkeys(np.concatenate(list(chosen.values())).tolist()):
        index = numbers[result.paths[number]]
        shown[number] = _figure(model, source.read(index), result, number, method=method)
        on_picture(len(shown))

    def pictures(kind: str, none: str) -> str:
        figures = "".join(shown[number] for number in chosen[kind].tolist())
        return f'<div class="pictures">{figures}</div>' if figures else f"<p>{escape(none)}</p>"

    map_words = f"Below each: {_MAP_WORDS[method]}"
    return page(
        title,
        tiles(
            {
                "top-1": f"{metrics.top1:.2f} %",
                **({"top-5": f"{metrics.top5:.2f} %"} if metrics.top5 is not None else {}),
                "right": f"{metrics.correct} of {metrics.images}",
                "cross-entropy": f"{metrics.loss:.4f}",
                "calibration error": f"{result.calibration_error:.2f} %",
            }
        ),
        section(
            "Its worst mistakes", pictures("worst", "It made none."), note=f"The most confident first. {map_words}"
        ),
        section("Most doubtful", pictures("doubtful", ""), note="Where the two most probable classes are nearest."),
        section("Surest and right", pictures("best", "It was never right.")),
        section("Confusion", heat_map(np.array(metrics.confusion), result.class_names), note="Rows: true class."),
        section(
            "Can its confidence be trusted?",
            _confidence_charts(result),
            note="A calibrated model is right in 80 % of the pictures that it is 80 % sure of.",
        ),
        section(
            "Classes",
            table(
                ["class", "pictures", "found, %", "of those named so, right, %"],
                [[each.name, each.images, each.recall, each.precision] for each in metrics.classes],
            ),
        ),
        section("Size and speed", table(["what", "how much"], [[*row] for row in size_and_speed(model).items()])),
        section("Where it came from", _origin(about)),
        *([section("Not read", preformatted("\n".join(result.broken)))] if result.broken else []),
        subtitle=f"on {metrics.images} pictures of {data_name}",
    )


_MAP_WORDS: dict[Method, str] = {
    "attention": "what the last block reads.",
    "rollout": "what the decision draws on (rollout).",
    "gradcam": "what speaks for the model's answer (Grad-CAM).",
    "gradients": "what speaks for (red) and against (blue) the model's answer (integrated gradients).",
    "occlusion": "red where covering the picture hurts the model's answer, blue where it helps (occlusion).",
}


def _figure(model: nn.Module, data: bytes | Image, result: Result, number: int, *, method: Method) -> str:
    """A picture, its map and its caption."""
    name = result.paths[number]
    picture = decode(data, name=name, channels=preprocess_of(model).in_chans)
    found = explain(model, picture, method=method).sized(2 * SIDE)
    probabilities = softmax(result.logits[number : number + 1])[0]
    true, answer = int(result.labels[number]), int(probabilities.argmax())
    verdict = f"{result.class_names[answer]} ({100 * probabilities[answer]:.1f} %)"
    if true != answer:
        verdict += f", is {result.class_names[true]} ({100 * probabilities[true]:.1f} %)"
    images = "".join(
        f'<img src="{picture_uri(image, side=2 * SIDE)}" alt="{alt}">'
        for image, alt in ((found.view.picture, "picture"), (blend(found), "map"))
    )
    colour = "good" if true == answer else "bad"
    return (
        f'<figure>{images}<figcaption><span class="{colour}">{escape(verdict)}</span><br>'
        f'<span class="soft">{escape(Path(name).name)}</span></figcaption></figure>'
    )


def _confidence_charts(result: Result) -> str:
    bins = reliability(result.logits, result.labels)
    diagonal = [(bins[0].confidence, bins[0].confidence), (100.0, 100.0)]
    return charts(
        line_chart(
            "Right, in %, by confidence",
            {"the model": [(each.confidence, each.accuracy) for each in bins], "perfectly calibrated": diagonal},
            x_label="confidence, %",
        ),
        line_chart(
            "Pictures by confidence",
            {"pictures": [(each.confidence, float(each.images)) for each in bins]},
            x_label="confidence, %",
        ),
    )


def size_and_speed(model: nn.Module) -> dict[str, object]:
    """Parameters, operations and time of one picture, on the model's own device."""
    parameter, preprocess = next(model.parameters()), preprocess_of(model)
    shape = (preprocess.in_chans, *preprocess.image_size)
    one = torch.zeros(1, *shape, dtype=parameter.dtype, device=parameter.device)
    # The fused kernels are not known to the counter on every device.
    with FlopCounterMode(display=False) as counter, explicit_attention(), torch.no_grad():
        model(one)
    device = torch.cuda.get_device_name(parameter.device) if parameter.is_cuda else f"{parameter.device}"
    threads = "" if parameter.is_cuda else f", {torch.get_num_threads()} threads"
    return {
        "parameters": f"{sum(each.numel() for each in model.parameters()) / 1e6:.2f} million",
        "multiply-accumulates": f"{counter.get_total_flops() / 2e9:.2f} billion per picture",
        "input": f"{shape[1]} x {shape[2]} pixels, {shape[0]} channels",
        "one picture alone": f"{1000 * _seconds(model, one):.1f} ms ({device}{threads})",
        "in batches of 16": f"{16 / _seconds(model, one.expand(16, *shape).contiguous()):.0f} pictures per second",
    }


@torch.inference_mode()
def _seconds(model: nn.Module, x_BCHW: torch.Tensor) -> float:
    """The median time of a forward pass."""
    times: list[float] = []
    model(x_BCHW)
    while len(times) < 3 or (sum(times) < TIMED_SECONDS and len(times) < 50):
        start = time.perf_counter()
        model(x_BCHW).cpu()  # waits for the device
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _origin(about: Mapping[str, object]) -> str:
    """Plain facts as a table, nested ones folded away."""
    plain = [[key, value] for key, value in about.items() if not isinstance(value, Mapping) and value is not None]
    nested = {key: dict(value) for key, value in about.items() if isinstance(value, Mapping)}
    return table(["what", ""], plain) + "".join(
        folded(key, preformatted(json.dumps(value, indent=2, ensure_ascii=False, default=str)))
        for key, value in nested.items()
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
