"""One call for every way to compute a model's logits: `build` for a model, `open_export` for an exported file.

Any model of images to logits will do, so that others can be compared on the same engine; only ours can be fused.

eager     the plain model
fused     deploy.fuse, with the batch cut as this machine likes best
compiled  the fused model through torch.compile; the first batch takes half a minute
onnx      onnxruntime
openvino  OpenVINO
"""

import copy
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridvit.config import Preprocess
from hybridvit.deploy import export
from hybridvit.deploy.formats import ENGINES, SUFFIXES
from hybridvit.deploy.fuse import fuse, is_fusible
from hybridvit.deploy.fused import Chunk, Fused
from hybridvit.errors import CheckpointError, ConfigError
from hybridvit.kernels.inductor import freezing, read_package
from hybridvit.models.position import Grid

KEPT_QUEUES = 2
"""Of OpenVINO: for full batches and for the last, shorter one."""


class Engine(nn.Module):
    """Images to logits by another runtime, from any thread. Shape: (B, C, H, W) float32, on the CPU -> (B, num_classes).

    preprocess, label_names, num_classes, task and architecture are the exported model's; None where the file does not say.
    """

    def __init__(self, metadata: dict[str, Any]) -> None:
        super().__init__()
        self.metadata = metadata
        self.pretrained_cfg: dict[str, Any] | None = metadata.get("pretrained_cfg")
        self.preprocess = Preprocess.from_pretrained_cfg(self.pretrained_cfg) if self.pretrained_cfg else None
        self.label_names: list[str] | None = metadata.get("label_names")
        self.num_classes: int | None = metadata.get("num_classes")
        self.architecture: str | None = metadata.get("architecture")
        self.in_chans = self.preprocess.in_chans if self.preprocess else 3
        self.task = metadata.get("task", "classification")
        self.eval()
        self.anchor = nn.Parameter(torch.empty(0), requires_grad=False)  # says where pictures go, and in which type


class OnnxEngine(Engine):
    def __init__(self, model: str | bytes) -> None:
        onnxruntime = _library("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Threads that go on spinning take the processor from whoever decodes the next pictures.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        written = self.session.get_modelmeta().custom_metadata_map.get(export.METADATA, "{}")
        super().__init__(json.loads(written))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        images = images_BCHW.contiguous().numpy()
        return torch.from_numpy(self.session.run([export.OUTPUT], {export.INPUT: images})[0])


class OpenVinoEngine(Engine):
    """A batch is computed picture by picture, as many at a time as there are threads: each has maps that its cache holds.

    Compiled for each size of picture by itself, 1.2 to 2 times as fast as for any; a file for any size is compiled for all.
    """

    def __init__(self, path: str | Path) -> None:
        self.openvino = _library("openvino")
        self.core = self.openvino.Core()
        model = self.core.read_model(path)
        written = model.get_rt_info([export.METADATA]).value if model.has_rt_info([export.METADATA]) else "{}"
        super().__init__(json.loads(written))
        self.model = model
        self.queues: dict[tuple[int, torch.Size | None], Any] = {}
        self.turn = Lock()  # of a queue, which has one list of answers; the queue computes in parallel by itself

    def forward(self, images_BCHW: Tensor) -> Tensor:
        with self.turn:
            return self._compute(images_BCHW)

    def _compute(self, images_BCHW: Tensor) -> Tensor:
        streams = min(len(images_BCHW), torch.get_num_threads())
        key = (streams, None if self.metadata.get("any_size") else images_BCHW.shape[1:])
        if key not in self.queues:
            if len(self.queues) == KEPT_QUEUES:
                del self.queues[next(iter(self.queues))]
            self.queues[key] = self._compile(*key)
        queue = self.queues[key]
        logits: list[Tensor] = [torch.empty(0)] * len(images_BCHW)

        def keep(request: Any, row: int) -> None:
            logits[row] = torch.from_numpy(request.get_output_tensor(0).data.copy())

        queue.set_callback(keep)
        images_BCHW = images_BCHW.contiguous()  # shared with the queue, so kept until it is done
        for row, image_1CHW in enumerate(images_BCHW.split(1)):
            queue.start_async({0: image_1CHW.numpy()}, row, share_inputs=True)
        queue.wait_all()
        return torch.cat(logits)

    def _compile(self, streams: int, shape: torch.Size | None) -> Any:
        model = self.model.clone()
        if shape is not None:
            model.reshape({0: [1, *shape]})
        config = {
            "INFERENCE_PRECISION_HINT": "f32",  # where a CPU has bfloat16, OpenVINO would compute in it
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": streams,
        }
        return self.openvino.AsyncInferQueue(self.core.compile_model(model, "CPU", config), streams)


class CompiledEngine(nn.Module):
    """A model through torch.compile, with its weights packed for their convolutions. Shape: (B, C, H, W) -> (B, num_classes).

    Packing is an option that torch.compile only heeds as a global one, and that fails where the batch is left open: so shorter
    batches are filled up to `batch_size`.
    """

    def __init__(self, model: nn.Module, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.model = torch.compile(copy.deepcopy(model).requires_grad_(False), dynamic=False)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        missing = max(0, self.batch_size - len(images_BCHW))
        with torch.no_grad(), freezing():
            return self.model(F.pad(images_BCHW, (0, 0, 0, 0, 0, 0, 0, missing)))[: len(images_BCHW)]


class ProgramEngine(Engine):
    """A file of torch.export or AOTInductor."""

    def __init__(self, function: Any, metadata: dict[str, Any]) -> None:
        super().__init__(metadata)
        # No module of ours: a program has one mode, and refuses to be put into another.
        self.function = lambda images_BCHW: function(images_BCHW)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.function(images_BCHW.contiguous())


def build(name: str, model: nn.Module, *, image_size: Grid, batch_size: int) -> nn.Module:
    """The engine `name` for a plain model in eval mode, ready for batches of up to `batch_size` pictures.

    A model that is not of ours runs eagerly as `fused`; the other engines fold what they know how to. The model stays as it is.

    Raises: ConfigError for an unknown name or a missing library.
    """
    if name not in ENGINES:
        raise ConfigError(f"No engine is called {name!r}. There are: {', '.join(ENGINES)}.")
    if name == "eager":
        return model
    if name in ("fused", "compiled"):
        fast = fuse(model) if is_fusible(model) else model
        if name == "compiled":
            return CompiledEngine(fast, batch_size)
        if isinstance(fast, Fused) and batch_size > 1 and next(model.parameters()).device.type == "cpu":
            tune(fast, image_size=image_size, batch_size=batch_size)
        return fast
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{SUFFIXES[name]}"
        export.export(model, path, to=name, image_size=image_size)
        return open_export(path)


def open_export(path: str | Path) -> Engine:
    """An exported file in its own runtime. A .pt2 file can run any code: `hybridvit.load` asks first.

    Raises: CheckpointError for other files, ConfigError without the library.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist.")
    if path.suffix == ".onnx":
        return _opened(path, lambda: OnnxEngine(str(path)))
    if path.suffix == ".xml":
        return _opened(path, lambda: OpenVinoEngine(path))
    if path.name.endswith(SUFFIXES["aoti"]):
        package, written = read_package(path)
        return ProgramEngine(package, json.loads(written[export.METADATA]))
    if path.suffix == ".pt2":
        files = {f"{export.METADATA}.json": ""}
        program = torch.export.load(path, extra_files=files)
        return ProgramEngine(program.module(), json.loads(files[f"{export.METADATA}.json"]))
    raise CheckpointError(f"{path} is no exported model: expected {', '.join(SUFFIXES.values())}.")


def _opened(path: Path, make: Callable[[], Engine]) -> Engine:
    """Runtimes raise what they like about a file that is none of theirs."""
    try:
        return make()
    except ConfigError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path} is no whole {path.suffix} file: {str(error).splitlines()[0][:200]}") from error


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
