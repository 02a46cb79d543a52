"""Where two models part: the same input through both, compared layer by layer, forwards and backwards.

    from hybridvit.compare.align import align
    print("\\n".join(align(ours, theirs, x).summary()))

Four comparisons, each in the order in which a difference would spread: the weights; every module's output in evaluation; the same
in training mode, with dropout and stochastic depth off; the gradient of every parameter, from the last to the first. A model that
is not ours says through a `Side` what its modules and parameters are called here.
"""

import copy
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from timm.layers import DropPath
from torch import Tensor, nn

from hybridvit.output import Described, Table
from hybridvit.weights import mapping
from hybridvit.weights.tables import SOURCES

Phase = Literal["weights", "eval", "train", "gradient"]
PHASES: dict[Phase, str] = {
    "weights": "weights",
    "eval": "forward, evaluating",
    "train": "forward, training",
    "gradient": "backward",
}
RUNS = ("eval", "train")
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}
# A gradient smaller than this share of the largest is held against that share instead: some are zero but for rounding, such as
# that of a bias ahead of BatchNorm, or of a key's, which moves all scores of a query alike.
NEGLIGIBLE = 1e-6
OUR_LAYERS = re.compile(
    r"stages\.\d+\.blocks\.\d+\.\w+|stages\.\d+\.(embed|cls_token|position|absolute_position)\b|stem\.\d+|(norm|head)\b"
)

Tensors = dict[str, Tensor]
Point = str | tuple[str, Callable[[Any], Tensor]]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two models, and how to read it in terms of the other."""

    name: str
    model: nn.Module
    points: Mapping[str, Point] | None = None
    """Name to compare under -> the module whose output it is, or (module, what makes the tensor to compare of its output).
    None: every module under its own name."""
    logits: Callable[[Any], Tensor] = lambda output: output
    """What the model returns -> logits."""
    rename: Callable[[Tensors], Tensors] = lambda tensors: tensors
    """Weights or gradients by the model's own names -> by the names, and in the shapes, to compare under."""


def names_of(source: str, ours: nn.Module) -> Callable[[Tensors], Tensors]:
    """A `Side.rename` for a model of a published implementation, by its conversion table.

    Args:
        source: a name of `hybridvit.weights.tables.PUBLISHED`.
        ours: a model of this library of the same size.
    """
    table, config = SOURCES[source], ours.config
    wanted = {
        key: tensor.to("meta", torch.float64 if tensor.is_floating_point() else tensor.dtype)
        for key, tensor in ours.state_dict().items()
    }

    def rename(tensors: Tensors) -> Tensors:
        theirs = {table.canonical(key): tensor for key, tensor in tensors.items()}
        found = mapping.to_ours(table, theirs, wanted, config.heads)  # type: ignore[union-attr, arg-type]
        return {key: tensor for key, tensor in found.state.items() if key not in found.filled}

    return rename


# ---- what comes out ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Row:
    """One tensor, in both models."""

    phase: Phase
    name: str
    shape_a: tuple[int, ...]
    shape_b: tuple[int, ...]
    difference: float | None
    """The norm of the difference over the norm of B's. None: the shapes differ, or a value is not finite."""
    parts: bool

    @property
    def layer(self) -> str:
        """The part of the model that it lies in: stages.0.blocks.0.mlp for stages.0.blocks.0.mlp.fc1.weight."""
        if found := OUR_LAYERS.match(self.name):
            return found[0]
        module = re.split(r"[./][^./]+$", self.name)[0]
        return module if self.phase in ("weights", "gradient") else self.name


@dataclass(frozen=True, kw_only=True)
class Alignment(Described):
    """What two models have in common, and where they part."""

    a: str
    b: str
    input: str
    tolerance: float
    rows: list[Row]
    only_a: list[str]
    """Outputs and parameters that B does not have."""
    only_b: list[str]

    @property
    def aligned(self) -> bool:
        return not any(row.parts for row in self.rows)

    def first(self, phase: Phase) -> Row | None:
        """The first tensor that is another one in B."""
        return next((row for row in self.rows if row.phase == phase and row.parts), None)

    def summary(self) -> list[str]:
        """One line per comparison."""
        lines = []
        for phase, title in PHASES.items():
            rows = [row for row in self.rows if row.phase == phase]
            first = self.first(phase)
            if first:
                inside = f" (in it {first.name[len(first.layer) + 1 :]})" if first.name != first.layer else ""
                lines.append(f"{title}: part at {first.layer}{inside}, {_by_how_much(first)}")
            elif rows:
                largest = max(row.difference or 0.0 for row in rows)
                lines.append(f"{title}: all {len(rows)} alike, the largest difference is {largest:.1e}")
        return lines

    def describe(self) -> list[object]:
        """A table with a line per layer, its difference in each comparison and where it parts; and sentences."""
        layers: dict[str, dict[Phase, float | None]] = {}
        parts: dict[str, set[Phase]] = {}
        for row in sorted(self.rows, key=lambda row: ("eval", "train").index(row.phase) if row.phase in RUNS else 2):
            cells = layers.setdefault(row.layer, {})
            # Of a layer's own output, that; of its weights and gradients, the worst.
            if row.name == row.layer or row.phase not in RUNS:
                worst = cells.get(row.phase, 0.0)
                cells[row.phase] = None if worst is None or row.difference is None else max(worst, row.difference)
            if row.parts:
                parts.setdefault(row.layer, set()).add(row.phase)
        lines = [
            [
                layer,
                *(_cell(cells, phase) for phase in PHASES),
                ", ".join(p for p in PHASES if p in parts.get(layer, ())),
            ]
            for layer, cells in layers.items()
        ]
        title = f"A: {self.a}\nB: {self.b}\nOn {self.input}.\nRelative differences above {self.tolerance:.0e} part."
        only = [
            f"Only in {name}: {', '.join(some[:5])}{f' and {len(some) - 5} more' if len(some) > 5 else ''}"
            for name, some in (("A", self.only_a), ("B", self.only_b))
            if some
        ]
        return [Table(["layer", *PHASES, "parts in"], lines, title), *only, *self.summary()]

    def to_dict(self) -> dict[str, Any]:
        return {"aligned": self.aligned, "summary": self.summary(), **asdict(self)}


def _cell(cells: Mapping[Phase, float | None], phase: Phase) -> str:
    if phase not in cells:
        return ""
    difference = cells[phase]
    return "differs" if difference is None else f"{difference:.1e}" if difference else "0"


def _by_how_much(row: Row) -> str:
    if row.shape_a != row.shape_b:
        return f"whose shapes are {row.shape_a} and {row.shape_b}"
    return "by values that are not finite" if row.difference is None else f"by {row.difference:.1e}"


# ---- comparing --------------------------------------------------------------------------------------------------------------


def align(a: Side | nn.Module, b: Side | nn.Module, x: Tensor, *, tolerance: float | None = None) -> Alignment:
    """Run both models on `x`, in its dtype and on its device, and compare all that they compute. The models stay as they are.

    Shape: x (B, C, H, W).

    Args:
        tolerance: relative differences above it count as parting; by default 1e-9 in float64 and 1e-4 in float32.
    """
    a, b = (side if isinstance(side, Side) else Side(name=type(side).__name__, model=side) for side in (a, b))
    tolerance = TOLERANCES[x.dtype] if tolerance is None else tolerance
    weights_a, weights_b = (side.rename(floats(side.model.state_dict())) for side in (a, b))
    rows = compare("weights", weights_a, weights_b, tolerance=tolerance)
    seen_a, _ = run(a, x, training=False)
    seen_b, _ = run(b, x, training=False)
    rows += compare("eval", seen_a, seen_b, tolerance=tolerance)
    names_a, names_b = {**seen_a, **weights_a}.keys(), {**seen_b, **weights_b}.keys()
    seen_a, gradients_a = run(a, x, training=True)
    seen_b, gradients_b = run(b, x, training=True)
    rows += compare("train", seen_a, seen_b, tolerance=tolerance)
    floor = NEGLIGIBLE * max(float(gradient.norm()) for gradient in gradients_b.values())
    backwards = {name: gradients_a[name] for name in reversed(gradients_a)}
    rows += compare("gradient", backwards, gradients_b, tolerance=tolerance, floor=floor)
    return Alignment(
        a=a.name,
        b=b.name,
        input=f"{x.shape[0]} pictures of {x.shape[2]} x {x.shape[3]} pixels in {str(x.dtype).removeprefix('torch.')}",
        tolerance=tolerance,
        rows=rows,
        only_a=[name for name in names_a if name not in names_b],
        only_b=[name for name in names_b if name not in names_a],
    )


def compare(phase: Phase, a: Tensors, b: Tensors, *, tolerance: float, floor: float = 0.0) -> list[Row]:
    """What both have, in the order of `a`. Norms in `b` count as at least `floor`."""
    rows = []
    for name in a:
        if name in b:
            found = relative(a[name], b[name], floor=floor)
            shapes = tuple(a[name].shape), tuple(b[name].shape)
            rows.append(row_of(phase, name, shapes, found, tolerance=tolerance))
    return rows


def row_of(
    phase: Phase, name: str, shapes: tuple[tuple[int, ...], tuple[int, ...]], difference: float, *, tolerance: float
) -> Row:
    return Row(
        phase=phase,
        name=name,
        shape_a=shapes[0],
        shape_b=shapes[1],
        difference=difference if math.isfinite(difference) else None,
        parts=not difference <= tolerance,
    )


def relative(a: Tensor, b: Tensor, *, floor: float = 0.0) -> float:
    """The norm of the difference over the norm of `b`, which counts as at least `floor`; infinite for other shapes."""
    if a.shape != b.shape:
        return math.inf
    a, b = a.double(), b.double()
    difference, size = float((a - b).norm()), max(float(b.norm()), floor)
    return 0.0 if difference == 0 else difference / size if size else math.inf


# ---- running ----------------------------------------------------------------------------------------------------------------


def run(side: Side, x: Tensor, *, training: bool) -> tuple[Tensors, Tensors]:
    """What a copy of the model computes: (the output of each point in the order of the computation, then "logits"; gradients).

    The gradients are those of `(logits * cotangent).sum()`; without `training` there are none.
    """
    model = copy.deepcopy(side.model).to(x).train(training)
    _switch_off_chance(model)
    seen: Tensors = {}
    handles = list(_hooks(model, side.points, seen))
    with torch.set_grad_enabled(training):
        logits = side.logits(model(x))
    for handle in handles:
        handle.remove()
    seen["logits"] = logits.detach()
    if not training:
        return seen, {}
    (logits * cotangent(logits)).sum().backward()
    gradients = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in model.named_parameters()
    }
    return seen, side.rename(gradients)


def floats(tensors: Mapping[str, Tensor]) -> Tensors:
    return {name: tensor.detach() for name, tensor in tensors.items() if tensor.is_floating_point()}


def cotangent(logits: Tensor) -> Tensor:
    """The weights of the logits in the loss, the same for all models."""
    rng = np.random.default_rng(zlib.crc32(b"cotangent"))
    return torch.from_numpy(rng.standard_normal(tuple(logits.shape))).to(logits)


def _switch_off_chance(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name in ("drop_prob", "attn_drop", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def _hooks(model: nn.Module, points: Mapping[str, Point] | None, seen: Tensors) -> Iterator[Any]:
    if points is None:
        # What only passes its input on is left out.
        points = {
            name: name
            for name, module in model.named_modules()
            if name and not isinstance(module, nn.Identity | nn.modules.dropout._DropoutNd | DropPath)
        }
    for name, point in points.items():
        path, read = (point, _first_tensor) if isinstance(point, str) else point

        def see(
            module: nn.Module, inputs: Any, output: Any, *, name: str = name, read: Callable[[Any], Tensor] = read
        ) -> None:
            calls = sum(1 for key in seen if key == name or key.startswith(f"{name} (call "))
            seen[f"{name} (call {calls + 1})" if calls else name] = read(output).detach().clone()

        yield model.get_submodule(path).register_forward_hook(see)


def _first_tensor(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else next(item for item in output if isinstance(item, Tensor))
