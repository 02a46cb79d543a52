"""Golden answers: what a published implementation computed, and how a model of ours compares.

NAME.json lists its checkpoint's tensors; their values follow from their names, so nothing large is stored. NAME.npz beside it
has its logits in both modes and, of each parameter's gradient, the norm and the product with a fixed probe, all in float64.
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hybridvit.compare.align import NEGLIGIBLE, TOLERANCES, Alignment, Row, Side, compare, floats, row_of, run
from hybridvit.errors import CheckpointError
from hybridvit.weights import mapping
from hybridvit.weights.tables import PUBLISHED

GRADIENTS = ("grad_keys", "grad_norms", "grad_dots")


@dataclass(frozen=True, kw_only=True)
class Golden:
    path: Path
    source: str
    """One of `tables.PUBLISHED`."""
    image_size: tuple[int, int]
    tensors: dict[str, tuple[tuple[int, ...], str]]
    """Key in the source's checkpoint -> shape, dtype."""
    answers: dict[str, np.ndarray]


def read(path: str | Path) -> Golden:
    """Read NAME.json and NAME.npz. Raises: CheckpointError."""
    path = Path(path)
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as stored:
            answers = dict(stored)
        found = Golden(
            path=path,
            source=manifest["source"],
            image_size=(manifest["image_size"][0], manifest["image_size"][1]),
            tensors={key: (tuple(spec["shape"]), spec["dtype"]) for key, spec in manifest["tensors"].items()},
            answers=answers,
        )
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: golden answers are two files, and {error.filename} does not exist.") from error
    except (OSError, KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{path} and its .npz are no golden answers: {error}") from error
    if found.source not in PUBLISHED or not {"eval_logits", "train_logits"} <= answers.keys():
        raise CheckpointError(f"{path}: of {found.source}, with {', '.join(answers)}, nothing is known here.")
    return found


def align_with_golden(
    name: str, model: nn.Module, golden: Golden, *, dtype: torch.dtype = torch.float64, tolerance: float | None = None
) -> Alignment:
    """Compare a model of this library with golden answers, under the source's names.

    Raises: CheckpointError when the source cannot express the model.
    """
    tolerance = TOLERANCES[dtype] if tolerance is None else tolerance
    table, model_config = PUBLISHED[golden.source], model.config
    keys = {table.canonical(key): key for key in golden.tensors}

    def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        theirs = mapping.to_theirs(table, tensors, model_config.heads)  # type: ignore[union-attr, arg-type]
        return {keys.get(key, key): tensor for key, tensor in theirs.items()}

    side = Side(name=name, model=model, rename=rename)
    try:
        weights = rename(floats(model.state_dict()))
    except KeyError as error:
        raise CheckpointError(
            f"{name}: {table.title} has no place for {error.args[0]}; {golden.path} is of another kind."
        ) from error
    stored = {
        key: torch.from_numpy(tensor(key, shape, dtype))
        for key, (shape, dtype) in golden.tensors.items()
        if "float" in dtype
    }
    rows = compare("weights", weights, stored, tolerance=tolerance)
    x = images(*golden.image_size).to(dtype)
    evaluated, _ = run(side, x, training=False)
    trained, gradients = run(side, x, training=True)
    for phase, logits in (("eval", evaluated["logits"]), ("train", trained["logits"])):
        expected = torch.from_numpy(golden.answers[f"{phase}_logits"])
        rows += compare(phase, {"logits": logits}, {"logits": expected}, tolerance=tolerance)  # type: ignore[arg-type]
    rows += _compare_gradients(gradients, golden, tolerance=tolerance)
    return Alignment(
        a=name,
        b=str(golden.path),
        input=f"the golden pictures, {x.shape[2]} x {x.shape[3]} pixels in {str(dtype).removeprefix('torch.')}",
        tolerance=tolerance,
        rows=rows,
        only_a=[key for key in weights if key not in stored],
        only_b=[key for key in stored if key not in weights],
    )


def _compare_gradients(gradients: dict[str, Tensor], golden: Golden, *, tolerance: float) -> list[Row]:
    """By norm and probe, from the last parameter to the first."""
    if not set(GRADIENTS) <= golden.answers.keys():
        return []
    keys, norms, dots = (golden.answers[name] for name in GRADIENTS)
    expected = {str(key): (float(norm), float(dot)) for key, norm, dot in zip(keys, norms, dots, strict=True)}
    floor = NEGLIGIBLE * float(norms.max())
    rows = []
    for key in reversed(gradients):
        if key not in expected:
            continue
        gradient = gradients[key].double().numpy()
        norm, dot = expected[key]
        found = np.linalg.norm(gradient) - norm, (gradient * probe(key, gradient.shape)).sum() - dot
        difference = float(np.abs(found).max()) / max(norm, abs(dot), floor)
        shape = golden.tensors[key][0]
        rows.append(row_of("gradient", key, (gradient.shape, shape), difference, tolerance=tolerance))
    return rows


# ---- what follows from a name -----------------------------------------------------------------------------------------------


def _rng(text: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(text.encode()))


def images(height: int, width: int) -> Tensor:
    """Shape: (2, 3, height, width), float64, standard normal."""
    return torch.from_numpy(_rng("images").standard_normal((2, 3, height, width)))


def probe(key: str, shape: tuple[int, ...]) -> np.ndarray:
    return _rng(f"probe/{key}").standard_normal(shape)


def tensor(key: str, shape: tuple[int, ...], dtype: str) -> Any:
    """The value stored under `key`: variances from 0.5, scales around 1, weights by their fan-in, large position biases."""
    rng, last = _rng(key), key.replace("/", ".").rpartition(".")[2]
    if "var" in last:
        value = 0.5 + rng.random(shape)
    elif "mean" in last:
        value = 0.1 * rng.standard_normal(shape)
    elif any(word in key for word in ("position", "relative_pos", "cls_token", "pos_emb", "absolute_pos")):
        value = 0.5 * rng.standard_normal(shape)
    elif len(shape) == 1 and ("bias" in last or "beta" in last):
        value = 0.05 * rng.standard_normal(shape)
    elif len(shape) <= 1:
        value = 0.5 + rng.random(shape)
    else:
        value = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    return np.asarray(value, dtype)
