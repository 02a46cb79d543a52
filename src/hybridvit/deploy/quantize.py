"""Static int8 for ONNX and OpenVINO: calibrated on pictures, one scale per output channel, hurtful blocks left in float.

onnxruntime writes QuantizeLinear / DequantizeLinear pairs around convolutions; both runtimes turn those into int8 kernels.
Only convolutions are quantised: they hold nearly all arithmetic, and softmax, LayerNorm and attention's products stay float. So
does CMT's local perception, x + dw(x) as one kernel: it would round the residual itself, and is no faster for it.
"""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hybridvit.deploy import export
from hybridvit.deploy.engines import OnnxEngine
from hybridvit.deploy.verify import Report, compare
from hybridvit.errors import ConfigError
from hybridvit.files import replacing
from hybridvit.models.position import Grid


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """What was left in float, and how well the rest does."""

    all_int8: Report
    """With everything quantised."""
    kept: Report
    """With `in_float` left in float."""
    in_float: tuple[str, ...]
    """Names of convolutions in the graph."""
    damage: dict[str, float]
    """Relative mean square error of the logits, for every part quantised alone."""


def quantise(
    model: nn.Module,
    path: str | Path,
    batches: Sequence[Tensor],
    *,
    held_out: Sequence[Tensor],
    to: str = "onnx",
    image_size: Grid | None = None,
    agreement: float = 0.99,
    most_in_float: int = 4,
    labels: Tensor | None = None,
) -> tuple[dict[str, Any], Quantised]:
    """Write `model` to `path` in int8, calibrated on `batches` of pictures (B, C, H, W).

    Where answers to `batches` agree on less than `agreement`, the parts (stem, embeddings, blocks' halves) that do most damage
    alone are left in float, worst first, at most `most_in_float` of them. The reports are on `held_out`, other pictures: an
    answer to a picture that chose the scales says little. With its `labels` (pictures,), they hold accuracies, too.

    Raises: ConfigError without the libraries.
    """
    metadata = export.describe(model, image_size=image_size, any_size=False, precision="int8")
    with torch.inference_mode():
        expected = torch.cat([model(images) for images in batches])
        expected_held_out = torch.cat([model(images) for images in held_out])
    program = export.trace(model, image_size=metadata["image_size"], form="convolutions")
    floating = export.onnx_model(program, metadata)
    parts = _parts(floating)
    everything = [name for names in parts.values() for name in names]
    with tempfile.TemporaryDirectory() as folder:
        maker = _Maker(floating, batches, Path(folder))
        best = maker.make(everything)
        all_int8 = _evaluate(best, expected_held_out, held_out, labels)
        reached = _evaluate(best, expected, batches, None).agreement
        damage: dict[str, float] = {}
        in_float: list[str] = []
        if reached < agreement:
            for part, names in parts.items():
                damage[part] = _error(maker.make(names), expected, batches)
            for part in sorted(damage, key=lambda part: -damage[part])[:most_in_float]:
                in_float += parts[part]
                best = maker.make([name for name in everything if name not in in_float])
                if _evaluate(best, expected, batches, None).agreement >= agreement:
                    break
        kept = _evaluate(best, expected_held_out, held_out, labels) if in_float else all_int8
        if to == "openvino":
            source = Path(folder) / "best.onnx"
            source.write_bytes(_quantise_tokens(best))
            export.onnx_to_openvino(source, Path(path), metadata)
        else:
            with replacing(path) as temporary:
                temporary.write_bytes(best)
    return metadata, Quantised(all_int8=all_int8, kept=kept, in_float=tuple(in_float), damage=damage)


class _Maker:
    """Writes int8 versions of one float graph."""

    def __init__(self, floating: Any, batches: Sequence[Tensor], folder: Path) -> None:
        try:
            from onnxruntime.quantization import shape_inference
        except ImportError as error:
            raise ConfigError(f"int8 takes onnxruntime: {export.EXTRA}") from error
        self.batches, self.folder = batches, folder
        raw, self.source = folder / "float.onnx", folder / "prepared.onnx"
        raw.write_bytes(floating.SerializeToString())
        shape_inference.quant_pre_process(raw, self.source, skip_symbolic_shape=True)

    def make(self, nodes: Sequence[str]) -> bytes:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        result = self.folder / "int8.onnx"
        log = logging.getLogger()
        level = log.level
        log.setLevel(logging.ERROR)  # it warns about its own defaults
        try:
            quantize_static(
                self.source,
                result,
                _Reader(self.batches),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_quantize=list(nodes),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                # A result that goes to LayerNorm, softmax or an addition stays as it is.
                extra_options={"OpTypesToExcludeOutputQuantization": ["Conv"]},
            )
        finally:
            log.setLevel(level)
        return result.read_bytes()


class _Reader:
    """Calibration pictures, batch by batch, as quantize_static asks for them."""

    def __init__(self, batches: Sequence[Tensor]) -> None:
        self.rest = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        images = next(self.rest, None)
        return None if images is None else {export.INPUT: images.contiguous().numpy()}


def _parts(model: Any) -> dict[str, list[str]]:
    """Convolutions to quantise, by the part of the model they belong to: "stem", "stages.1.blocks.0.attn", "head" ..."""
    weights = {tensor.name for tensor in model.graph.initializer}
    parts: dict[str, list[str]] = {}
    for node in model.graph.node:
        words = node.name.partition("/")[0].split(".")
        if node.op_type == "Conv" and node.input[1] in weights and words[-1] != "lpu":
            part = ".".join(words[:5] if "blocks" in words else words[:3] if words[0] == "stages" else words[:1])
            parts.setdefault(part, []).append(node.name)
    return parts


def _quantise_tokens(model: bytes) -> bytes:
    """Quantise tokens ahead of the permutation that makes them a map: OpenVINO joins that to LayerNorm, and copies nothing."""
    import onnx

    proto = onnx.load_from_string(model)
    makers = {name: node for node in proto.graph.node for name in node.output}
    nodes = []
    for node in proto.graph.node:
        nodes.append(node)
        quantise = makers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        permute = makers.get(quantise.input[0]) if quantise else None
        if quantise and permute and permute.op_type == "Transpose":
            result, tokens = node.output[0], f"{node.output[0]}_tokens"
            quantise.input[0], node.output[0] = permute.input[0], tokens
            behind = onnx.helper.make_node("Transpose", [tokens], [result], name=f"{node.name}_permuted")
            behind.attribute.extend(permute.attribute)
            nodes.append(behind)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto.SerializeToString()


def _logits(model: bytes, batches: Sequence[Tensor]) -> Tensor:
    engine = OnnxEngine(model)
    return torch.cat([engine(images) for images in batches])


def _evaluate(model: bytes, expected: Tensor, batches: Sequence[Tensor], labels: Tensor | None) -> Report:
    return compare(expected, _logits(model, batches), precision="int8", labels=labels)


def _error(model: bytes, expected: Tensor, batches: Sequence[Tensor]) -> float:
    found = _logits(model, batches)
    return ((found - expected).square().mean() / expected.var()).item()
