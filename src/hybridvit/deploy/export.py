"""A model as a file for another runtime, with its preprocessing and class names inside.

    onnx      ONNX: onnxruntime and many others
    openvino  OpenVINO's .xml with its .bin
    pt2       torch.export: PyTorch without this package
    aoti      AOTInductor: compiled for this machine's kind; Python and C++ of the same PyTorch

All are written from the fused model, in the words that the runtime computes fastest (deploy.graph). The batch is of any size;
with `any_size` so are rows and columns, from SMALLEST_SIDE on. Models of other libraries are written as they are.
"""

import ast
import copy
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from hybridvit.config import Preprocess
from hybridvit.deploy.formats import PRECISIONS, SUFFIXES, format_of
from hybridvit.deploy.fuse import fuse, is_fusible
from hybridvit.deploy.fused_cmt import Baked
from hybridvit.deploy.graph import cancel_permutations, rewrite
from hybridvit.errors import ConfigError
from hybridvit.files import replacing
from hybridvit.kernels.inductor import write_package
from hybridvit.models.position import Grid

INPUT, OUTPUT, METADATA = "images", "logits", "hybridvit"
LARGEST_BATCH, LARGEST_SIDE, SMALLEST_SIDE = 4096, 4096, 64
Form = Literal["fused", "matrix products", "convolutions"]
"""How linear layers are written; the last two by deploy.graph."""
EXTRA = "pip install 'hybridvit[export]'"


def export(
    model: nn.Module,
    path: str | Path,
    *,
    to: str | None = None,
    image_size: Grid | None = None,
    any_size: bool = False,
    precision: str = "fp32",
) -> dict[str, Any]:
    """Write `model` to `path`, complete or not at all, and return the metadata that the file carries.

    Args:
        model: a plain CvT or CMT with its head, as `hybridvit.load` gives it; or another. It stays as it is.
        to: onnx, openvino, pt2 or aoti; by default what the path's suffix says: .onnx, .xml, .pt2, .aoti.pt2.
        image_size: rows and columns; the preprocessing's by default.
        any_size: also take other sizes, of at least 64 pixels; position tables are then resized within the graph.

    Raises: ConfigError for what the format does not offer, or a missing library.
    """
    if getattr(model, "task", None) == "detection":
        raise ConfigError(
            "Detectors cannot be exported yet: their answers are lists of boxes of any length, not one tensor."
        )
    path = Path(path)
    to = check_path(path, to)
    check_precision(to, precision)
    if precision == "int8":
        raise ConfigError("int8 is calibrated on pictures: deploy.quantize.quantise.")
    metadata = describe(model, image_size=image_size, any_size=any_size, precision=precision)
    form: Form = "matrix products" if to == "openvino" else "fused"
    size = metadata["image_size"]
    program = trace(model, image_size=size, any_size=any_size, bfloat16=precision == "bf16", form=form)
    _WRITERS[to](program, path, metadata)
    return metadata


def check_path(path: Path, to: str | None) -> str:
    """The format of a file that is to be written, which its suffix tells, too. Raises: ConfigError, before anything is built."""
    suffixes = ", ".join(f"{suffix} ({name})" for name, suffix in SUFFIXES.items())
    if to is not None and to not in SUFFIXES:
        raise ConfigError(f"No format is called {to!r}. There are: {', '.join(SUFFIXES)}.")
    if path.is_dir():
        raise ConfigError(
            f"{path} is a folder; name the file to write, {path / 'model'}{SUFFIXES[to or 'onnx']} for example."
        )
    found = to or format_of(path)
    if found is None:
        raise ConfigError(f"{path}: the suffix names no format. There are: {suffixes}.")
    if not path.name.endswith(SUFFIXES[found]):
        raise ConfigError(f"{path}: a file of the format {found} ends with {SUFFIXES[found]}.")
    return found


def check_precision(to: str, precision: str) -> None:
    if precision not in PRECISIONS[to]:
        raise ConfigError(f"{to} is written in {' or '.join(PRECISIONS[to])}, not {precision}.")


def describe(model: Any, *, image_size: Grid | None, any_size: bool, precision: str) -> dict[str, Any]:
    """What a file says of itself, as plain JSON values."""
    preprocess = getattr(model, "preprocess", None)
    if preprocess is None and hasattr(model, "pretrained_cfg"):
        preprocess = Preprocess.from_pretrained_cfg(model.pretrained_cfg)
    if preprocess is None:
        if image_size is None:
            raise ConfigError(f"{type(model).__name__} does not say for which size it is: give image_size.")
        preprocess = Preprocess(image_size=image_size)
    size = image_size or preprocess.image_size
    return {
        "format": 1,
        "architecture": getattr(model, "architecture", type(model).__name__),
        "task": getattr(model, "task", None) or "classification",
        "num_classes": getattr(model, "num_classes", None),
        "label_names": getattr(model, "label_names", None),
        "pretrained_cfg": replace(preprocess, image_size=tuple(size)).to_pretrained_cfg(),
        "image_size": list(size),
        "any_size": any_size,
        "precision": precision,
        "input": "float32 (batch, channels, rows, columns), normalised as pretrained_cfg says",
    }


@torch.no_grad()
def trace(
    model: nn.Module, *, image_size: Grid, any_size: bool = False, bfloat16: bool = False, form: Form = "fused"
) -> ExportedProgram:
    """The model, fused if it is one of ours, as a graph: images -> logits, both float32.

    Raises: ConfigError for a size that the model cannot take.
    """
    if any_size and min(image_size) < SMALLEST_SIDE:
        raise ConfigError(f"Files for any size begin at {SMALLEST_SIDE} pixels; {tuple(image_size)} is smaller.")
    if is_fusible(model):
        fused = fuse(model)
        for part in fused.modules():
            if isinstance(part, Baked):
                part.any_grid = any_size
        model = fused.cpu() if form == "fused" else rewrite(fused.cpu(), matrix_products=form == "matrix products")
    else:
        model = copy.deepcopy(model).cpu().eval()
    module = _InBfloat16(model) if bfloat16 else model
    rows, columns = image_size
    # An example of two different sides: equal ones would be taken for one.
    images = torch.zeros(2, getattr(model, "in_chans", 3), rows, columns + 32 if any_size else columns)
    module(images)
    dims = {0: Dim("batch", min=1, max=LARGEST_BATCH)}
    if any_size:
        dims |= {side: Dim(name, min=SMALLEST_SIDE, max=LARGEST_SIDE) for side, name in ((2, "rows"), (3, "columns"))}
    program = torch.export.export(module, (images,), dynamic_shapes=(dims,))
    cancel_permutations(program)
    return program


class _InBfloat16(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).to(torch.bfloat16)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.model(images_BCHW.to(torch.bfloat16)).float()


def onnx_model(program: ExportedProgram, metadata: dict[str, Any]) -> Any:
    """An onnx.ModelProto with input `images`, output `logits` and the metadata. Raises: ConfigError without the library."""
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"Writing ONNX takes onnx and onnxscript: {EXTRA}") from error
    written = torch.onnx.export(
        program, dynamo=True, verbose=False, opset_version=20, input_names=[INPUT], output_names=[OUTPUT]
    )
    assert written is not None
    model = written.model_proto
    _name_by_module(model.graph)
    onnx.helper.set_model_props(model, {METADATA: json.dumps(metadata)})
    return model


def _name_by_module(graph: Any) -> None:
    """Nodes carry the module they come from in their name, instead of this machine's stack traces."""
    for number, node in enumerate(graph.node):
        notes = {note.key: note.value for note in node.metadata_props}
        scopes = ast.literal_eval(notes.get("pkg.torch.onnx.name_scopes", "['']"))
        node.name = f"{scopes[-2] if len(scopes) > 1 else ''}/{node.op_type}_{number}".lstrip("/")
        del node.metadata_props[:]
    for value in (*graph.value_info, *graph.initializer, *graph.input, *graph.output):
        del value.metadata_props[:]


def _write_onnx(program: ExportedProgram, path: Path, metadata: dict[str, Any]) -> None:
    model = onnx_model(program, metadata)
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def _write_openvino(program: ExportedProgram, path: Path, metadata: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _write_onnx(program, Path(folder) / "model.onnx", metadata)
        onnx_to_openvino(Path(folder) / "model.onnx", path, metadata)


def onnx_to_openvino(source: Path, path: Path, metadata: dict[str, Any]) -> None:
    """Write OpenVINO's pair of files, `path` (.xml) and the same with .bin. Raises: ConfigError without the library."""
    try:
        import openvino
    except ImportError as error:
        raise ConfigError(f"Writing OpenVINO's format takes openvino: {EXTRA}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    model = openvino.convert_model(source)
    model.set_rt_info(json.dumps(metadata), [METADATA])
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder) / path.name
        openvino.save_model(model, written, compress_to_fp16=metadata["precision"] == "fp16")
        written.with_suffix(".bin").replace(path.with_suffix(".bin"))
        written.replace(path)


def _write_pt2(program: ExportedProgram, path: Path, metadata: dict[str, Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.export.save(program, file, extra_files={f"{METADATA}.json": json.dumps(metadata)})


def _write_aoti(program: ExportedProgram, path: Path, metadata: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        write_package(program, Path(folder) / "model.pt2", {METADATA: json.dumps(metadata)}).replace(path)


_WRITERS: dict[str, Callable[[ExportedProgram, Path, dict[str, Any]], None]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "pt2": _write_pt2,
    "aoti": _write_aoti,
}
