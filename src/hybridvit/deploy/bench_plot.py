"""Published accuracy against time, drawn."""

from collections.abc import Sequence
from pathlib import Path

from hybridvit.deploy.bench import Timing
from hybridvit.deploy.steps import published_top1
from hybridvit.errors import ConfigError
from hybridvit.models import catalog


def check_plot(names: Sequence[str]) -> None:
    """Raises: ConfigError when none of the models has an accuracy to draw: before hours of timing, not after."""
    if not any(published_top1(name) for name in names):
        raise ConfigError("--plot draws published accuracies, and none of these models has one.")


def plot(timings: Sequence[Timing], path: Path, *, unit: str = "batch") -> None:
    """Published top-1 against time: a panel per engine, our models in colour, the others in grey."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("--plot takes matplotlib: pip install 'hybridvit[viz]'") from error
    shown = [(timing, timing.top1) for timing in timings if timing.top1 is not None]
    shown.sort(key=lambda one: one[1])
    engines = list(dict.fromkeys(timing.engine for timing in timings))
    figure = Figure(figsize=(1 + 5.5 * len(engines), 5.5), layout="constrained")
    panels = figure.subplots(1, len(engines), sharey=True, squeeze=False)[0]
    for axes, engine in zip(panels, engines, strict=True):
        # Our names stand on the left, the others' on the right, those of neighbours above and below.
        for number, (timing, top1) in enumerate(one for one in shown if one[0].engine == engine):
            ours = timing.model in catalog.ARCHITECTURES
            color, side = ("tab:blue", "right") if ours else ("dimgray", "left")
            axes.plot(timing.spread, (top1, top1), color=color, alpha=0.35)
            axes.plot(timing.milliseconds, top1, "o", color=color)
            axes.annotate(
                timing.model.removesuffix("_patch4_window7_224"),
                (timing.milliseconds, top1),
                xytext=(-7 if ours else 7, 3 if ours or number % 2 else -10),
                textcoords="offset points",
                horizontalalignment=side,
                size=8,
                color=color,
            )
        axes.set_xlim(left=0, right=1.3 * axes.get_xlim()[1])
        axes.grid(alpha=0.3)
        axes.set(title=engine, xlabel=f"milliseconds per {unit}")
    panels[0].set_ylabel("published ImageNet-1k top-1, %")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
