"""One call for every way to compute a model's logits: `build` for a model, `open_export` for an exported file.

eager     the plain model
fused     deploy.fuse, with the batch cut as this machine likes best
compiled  the fused model through torch.compile; the first batch takes a minute
onnx      onnxruntime
openvino  OpenVINO
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hybridvit.deploy import export
from hybridvit.deploy.fuse import fuse
from hybridvit.deploy.fused import Chunk, Fused
from hybridvit.errors import CheckpointError, ConfigError
from hybridvit.models.position import Grid

ENGINES = ("eager", "fused", "compiled", "onnx", "openvino")


class Engine(nn.Module):
    """Images to logits by another runtime. Shape: (B, C, H, W) float32, on the CPU -> (B, num_classes)."""

    def __init__(self, metadata: dict[str, Any]) -> None:
        super().__init__()
        self.metadata = metadata
        self.anchor = nn.Parameter(torch.empty(0), requires_grad=False)  # says where pictures go, and in which type


class OnnxEngine(Engine):
    def __init__(self, model: str | bytes, metadata: dict[str, Any] | None = None) -> None:
        onnxruntime = _library("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        written = self.session.get_modelmeta().custom_metadata_map.get(export.METADATA, "{}")
        super().__init__(metadata or json.loads(written))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        images = images_BCHW.contiguous().numpy()
        return torch.from_numpy(self.session.run([export.OUTPUT], {export.INPUT: images})[0])


class OpenVinoEngine(Engine):
    def __init__(self, path: str | Path, metadata: dict[str, Any] | None = None) -> None:
        openvino = _library("openvino")
        core = openvino.Core()
        model = core.read_model(path)
        if metadata is None:
            metadata = (
                json.loads(model.get_rt_info([export.METADATA]).value) if model.has_rt_info([export.METADATA]) else {}
            )
        # Asked for, not taken for granted: where a CPU has bfloat16, OpenVINO computes in it.
        config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        self.request = core.compile_model(model, "CPU", config).create_infer_request()
        super().__init__(metadata)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        self.request.infer({0: images_BCHW.contiguous().numpy()}, share_inputs=True)
        return torch.from_numpy(self.request.get_output_tensor(0).data.copy())


class ProgramEngine(Engine):
    """A file of torch.export or AOTInductor."""

    def __init__(self, function: Any, metadata: dict[str, Any]) -> None:
        super().__init__(metadata)
        self.function = function

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.function(images_BCHW.contiguous())


def build(name: str, model: nn.Module, *, image_size: Grid, batch_size: int) -> nn.Module:
    """The engine `name` for a plain model, ready for batches of up to `batch_size` pictures.

    Raises: ConfigError for an unknown name or a missing library.
    """
    if name == "eager":
        return model
    if name in ("fused", "compiled"):
        fused = fuse(model)
        if name == "compiled":
            return torch.compile(fused, options={"freezing": True})  # type: ignore[return-value]
        if batch_size > 1 and next(model.parameters()).device.type == "cpu":
            tune(fused, image_size=image_size, batch_size=batch_size)
        return fused
    if name not in ENGINES:
        raise ConfigError(f"No engine is called {name!r}. There are: {', '.join(ENGINES)}.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{export.SUFFIXES[name]}"
        export.export(model.cpu(), path, to=name, image_size=image_size)
        return open_export(path)


def open_export(path: str | Path) -> Engine:
    """An exported file in its own runtime. Raises: CheckpointError for other files, ConfigError without the library."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist.")
    if path.suffix == ".onnx":
        return OnnxEngine(str(path))
    if path.suffix == ".xml":
        return OpenVinoEngine(path)
    if path.name.endswith(export.SUFFIXES["aoti"]):
        from torch._inductor import aoti_load_package

        package = aoti_load_package(str(path))
        return ProgramEngine(package, json.loads(package.get_metadata()[export.METADATA]))
    if path.suffix == ".pt2":
        files = {f"{export.METADATA}.json": ""}
        program = torch.export.load(path, extra_files=files)
        return ProgramEngine(program.module(), json.loads(files[f"{export.METADATA}.json"]))
    raise CheckpointError(f"{path} is no exported model: expected {', '.join(export.SUFFIXES.values())}.")


@torch.inference_mode()
def tune(fused: Fused, *, image_size: Grid, batch_size: int, repeats: int = 3) -> dict[Chunk, float]:
    """Set `fused.chunk` to what is fastest here for this batch. Returns seconds per batch of every way tried."""
    images = torch.randn(batch_size, fused.in_chans, *image_size)
    last = len(fused.stages) - 1
    ways = [Chunk(batch_size, 0)] + [
        Chunk(pictures, stages) for stages in range(2, last + 1) for pictures in (1, 2, 4) if pictures < batch_size
    ]
    seconds = dict.fromkeys(ways, float("inf"))
    for attempt in range(repeats + 1):  # the first packs weights
        for way in ways:
            fused.chunk = way
            start = time.perf_counter()
            fused(images)
            if attempt:
                seconds[way] = min(seconds[way], time.perf_counter() - start)
    fused.chunk = min(seconds, key=lambda way: seconds[way])
    return seconds


def _library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"This engine takes {name}: {export.EXTRA}") from error
