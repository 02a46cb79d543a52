"""int8 against the same model in float32, and both against ResNet-50, by turns on the engine `openvino`.

OMP_NUM_THREADS=2 python benchmarks/int8.py > benchmarks/int8.json
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import timm
import torch

from hybridvit.deploy import bench, engines
from hybridvit.deploy.export import export
from hybridvit.deploy.quantize import quantise
from hybridvit.models import catalog

SIZE, ROUNDS = (224, 224), {1: 40, 16: 12}
torch.manual_seed(0)
calibration = list(torch.randn(8, 3, *SIZE).split(4))
by_name: dict[str, engines.Engine] = {}
with tempfile.TemporaryDirectory() as folder:
    for name in ("resnet50", "cvt_13", "cmt_s"):
        model = timm.create_model(name) if name == "resnet50" else catalog.create(name, img_size=SIZE)
        path = Path(folder) / f"{name}.xml"
        export(model.eval(), path, to="openvino", image_size=SIZE)
        by_name[name] = engines.open_export(path)
        if name != "resnet50":
            path = Path(folder) / f"{name}-int8.xml"
            quantise(
                model, path, calibration, held_out=calibration, to="openvino", image_size=SIZE, agreement=0.0
            )  # all of it
            by_name[f"{name}, int8"] = engines.open_export(path)
rows = []
for batch_size, rounds in ROUNDS.items():
    images = torch.randn(batch_size, 3, *SIZE)
    seconds: dict[str, list[float]] = {name: [] for name in by_name}
    for turn in range(rounds + 2):
        for name, engine in by_name.items():
            start = time.perf_counter()
            engine(images)
            if turn >= 2:  # the first compiles
                seconds[name].append(time.perf_counter() - start)
    for name, times in seconds.items():
        as_float = seconds[name.removesuffix(", int8")]
        rows.append(
            {
                "model": name,
                "batch_size": batch_size,
                "median_ms": round(1000 * statistics.median(times), 1),
                "ratio": round(statistics.median(a / b for a, b in zip(times, seconds["resnet50"], strict=True)), 2),
                "times_as_fast": round(statistics.median(b / a for a, b in zip(times, as_float, strict=True)), 2),
            }
        )
print(json.dumps({**bench.machine(), "timings": rows}, indent=2))
