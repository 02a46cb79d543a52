"""A white square decides the class; maps must fall on it. Then: taking pixels away in a map's order must hurt, on real digits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hybridvit.attribution.curves import curve
from hybridvit.attribution.explain import explain
from hybridvit.attribution.explanation import Explanation, Method
from hybridvit.attribution.geometry import view
from hybridvit.attribution.methods import gradcam, integrated_gradients
from hybridvit.attribution.record import sites
from hybridvit.config import Preprocess
from hybridvit.data.readers.folder import read_folder
from hybridvit.models import catalog

Train = Callable[[str], nn.Module]
Square = Callable[..., Image.Image]
SIDE, SQUARE = 64, 24  # as conftest.py draws them
CORNERS = [(row, column) for row in (0, SIDE - SQUARE) for column in (0, SIDE - SQUARE)]


def mass_on_square(explanation: Explanation, corner: tuple[int, int], *, margin: int) -> float:
    """The share of what speaks for the class that lies on the square, or at most `margin` pixels beside it."""
    heat = explanation.heat.clip(min=0)
    rows, columns = (slice(max(0, start - margin), start + SQUARE + margin) for start in corner)
    return float(heat[rows, columns].sum() / heat.sum())


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("cvt_nano", "gradients"),
        ("cvt_nano", "occlusion"),
        ("cvt_nano", "gradcam"),
        ("cmt_nano", "gradients"),
        ("cmt_nano", "occlusion"),
    ],
)
def test_over_80_percent_of_the_map_lies_on_the_square_that_decides(
    square_finder: Train, noise_with_square: Square, name: str, method: Method
) -> None:
    """8 pixels, half of CMT's last token, are allowed beside the square: maps are not sharper."""
    model, rng, masses = square_finder(name), np.random.default_rng(1), []
    for corner in CORNERS:
        found = explain(model, noise_with_square(rng, corner), method=method)
        assert found.top(1)[0][0] == "square"
        masses.append(mass_on_square(found, corner, margin=8))
    print(name, method, np.round(masses, 2))
    assert np.mean(masses) > 0.8


def test_attention_that_looks_for_the_square_is_shown_on_the_square(noise_with_square: Square) -> None:
    """The keys of one block are fitted to the square, so that all its queries read it. One key step, 16 pixels, is allowed."""
    torch.manual_seed(0)
    model: Any = catalog.create("cvt_nano", num_classes=2).eval()
    model.preprocess = Preprocess(image_size=(SIDE, SIDE), crop_pct=1.0)
    attention: Any = model.stages[1].blocks[0].attn
    site = sites(model, (SIDE, SIDE))[1]
    rng = np.random.default_rng(0)
    features, overlap = [], []
    hook = attention.k.norm.register_forward_hook(lambda _module, _inputs, output: features.append(output[0].detach()))
    for corner in rng.integers(0, SIDE - SQUARE + 1, (64, 2)):
        with torch.no_grad():
            model(view(noise_with_square(rng, tuple(corner)), model.preprocess).input_1CHW)
        rows, columns = (
            ((axis.origin + axis.step * np.arange(count)) >= start)
            & ((axis.origin + axis.step * np.arange(count)) < start + SQUARE)
            for axis, count, start in zip(site.key_axes, site.key_grid, corner, strict=True)
        )
        overlap.append(torch.from_numpy(np.outer(rows, columns).ravel().astype(np.float32)))
    hook.remove()
    design = torch.stack(features).flatten(2).transpose(1, 2).flatten(0, 1)
    design = torch.cat((design, torch.ones(len(design), 1)), dim=1)
    probe = torch.linalg.lstsq(design, torch.cat(overlap)[:, None]).solution[:-1, 0]
    with torch.no_grad():
        attention.q.linear.weight.zero_()
        attention.q.linear.bias.fill_(20.0)
        attention.k.linear.weight.copy_(probe.expand(len(probe), -1))
    for corner in CORNERS:
        found = explain(model, noise_with_square(rng, corner), stage=1)
        assert mass_on_square(found, corner, margin=16) > 0.8


def test_integrated_gradients_sum_to_the_rise_of_the_logit(square_finder: Train, noise_with_square: Square) -> None:
    model: Any = square_finder("cvt_nano")
    x_1CHW = view(noise_with_square(np.random.default_rng(2), (8, 30)), model.preprocess).input_1CHW
    with torch.no_grad():
        rise = model(x_1CHW)[0, 1] - model(torch.zeros_like(x_1CHW))[0, 1]
    total = integrated_gradients(model, x_1CHW, label=1, steps=64).sum()
    assert float(total) == pytest.approx(float(rise), rel=0.05)


def test_gradcam_of_cmt_is_what_its_head_says_by_hand(square_finder: Train, noise_with_square: Square) -> None:
    model: Any = square_finder("cmt_nano")
    x_1CHW = view(noise_with_square(np.random.default_rng(2), (8, 30)), model.preprocess).input_1CHW
    features = model.forward_features(x_1CHW).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model.forward_head(features)[0, 1], features)
    by_hand = (gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).relu()[0].detach()
    torch.testing.assert_close(gradcam(model, x_1CHW, label=1, stage=2, grid=(4, 4)), by_hand)


@pytest.mark.parametrize("name", ["cvt_nano", "cmt_nano"])
@pytest.mark.parametrize(("method", "margin"), [("gradients", 0.5), ("occlusion", 0.4)])
def test_deleting_and_inserting_by_the_map_beats_a_random_map(
    digit_reader: Train, digits: Path, name: str, method: Method, margin: float
) -> None:
    """Insertion less deletion, means over the curves of 20 digits. The random map is as coarse as the one it is compared with."""
    model, source, rng, gains = digit_reader(name), read_folder(digits / "test"), np.random.default_rng(0), []
    for index in range(0, len(source), 45):
        found = explain(model, source.name(index), method=method)
        by_map, by_chance = (
            _insertion_less_deletion(model, found, map_rc)
            for map_rc in (found.map_hrc[0], rng.random(found.map_hrc.shape[1:]))
        )
        gains.append(by_map - by_chance)
    print(name, method, np.mean(gains))
    assert np.mean(gains) > margin


def _insertion_less_deletion(model: nn.Module, found: Explanation, map_rc: np.ndarray) -> float:
    heat, x_1CHW = found.view.to_input(map_rc, found.axes), found.view.input_1CHW
    insertion, deletion = (
        curve(model, x_1CHW, heat, label=found.label, kind=kind).mean()  # type: ignore[arg-type]
        for kind in ("insertion", "deletion")
    )
    return float(insertion - deletion)


def test_a_curve_runs_between_the_picture_and_the_mean_colour(digit_reader: Train, digits: Path) -> None:
    model: Any = digit_reader("cvt_nano")
    x_1CHW = view(explain(model, digits / "test" / "0" / "0902.png").view.picture, model.preprocess).input_1CHW
    with torch.no_grad():
        ends = model(torch.cat((x_1CHW, torch.zeros_like(x_1CHW)))).softmax(dim=1)[:, 0].double().numpy()
    heat = np.random.default_rng(0).random((32, 32))
    deletion = curve(model, x_1CHW, heat, label=0, kind="deletion", steps=4)
    insertion = curve(model, x_1CHW, heat, label=0, kind="insertion", steps=4)
    assert deletion.shape == (5,)
    np.testing.assert_allclose(deletion[[0, -1]], ends, rtol=1e-4)
    np.testing.assert_allclose(insertion[[0, -1]], ends[::-1], rtol=1e-4)
