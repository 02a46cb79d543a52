"""What can be exported and computed with, by name. Imports nothing: `--help` reads it."""

ENGINES = ("eager", "fused", "compiled", "onnx", "openvino")
"""Ways to compute a model's logits: see deploy.engines."""

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2", "aoti": ".aoti.pt2"}
"""How a file of each format is called."""

PRECISIONS = {
    "onnx": ("fp32", "int8"),
    "openvino": ("fp32", "fp16", "int8"),
    "pt2": ("fp32", "bf16"),
    "aoti": ("fp32", "bf16"),
}
"""fp16 halves OpenVINO's file; it computes as the device can. int8 is written by deploy.quantize."""


def is_export(path: object) -> bool:
    """Whether a file's name says that `hybridvit export` wrote it."""
    return str(path).endswith(tuple(SUFFIXES.values()))


def format_of(path: object) -> str | None:
    """The format that a file's name asks for; the longest suffix counts."""
    fitting = [name for name, suffix in SUFFIXES.items() if str(path).endswith(suffix)]
    return max(fitting, key=lambda name: len(SUFFIXES[name]), default=None)
