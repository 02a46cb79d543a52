"""Pictures per second of the serving loop: each engine, with decoding beside computing and one after the other.

python benchmarks/engines.py cvt_13 > benchmarks/engines.json
"""

import io
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from hybridvit.data.ahead import ahead
from hybridvit.data.loader import eval_loader
from hybridvit.data.unlabelled import open_unlabelled
from hybridvit.deploy import bench, engines
from hybridvit.evaluation import run
from hybridvit.evaluation.run import evaluate
from hybridvit.models import catalog

PICTURES, BATCH, TURNS = 64, 16, 3
name = sys.argv[1]
model = catalog.create(name).eval()
preprocess = catalog.ARCHITECTURES[name].preprocess
rng = np.random.default_rng(0)
seconds: dict[str, float] = {}
with tempfile.TemporaryDirectory() as folder:
    for number in range(PICTURES):
        coarse = Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
        data = io.BytesIO()
        coarse.resize((512, 384), Image.Resampling.BICUBIC).save(data, "JPEG", quality=90)
        (Path(folder) / f"{number:03}.jpg").write_bytes(data.getvalue())
    loader = eval_loader(open_unlabelled([folder]), preprocess=preprocess, batch_size=BATCH)
    for engine_name in ("eager", "fused", "openvino"):
        engine = engines.build(engine_name, model, image_size=preprocess.image_size, batch_size=BATCH)
        for reading, way in (("ahead", ahead), ("in turn", iter)):
            run.ahead = way  # type: ignore[assignment]
            evaluate(engine, loader)
            for _ in range(TURNS):
                start = time.perf_counter()
                evaluate(engine, loader)
                passed = time.perf_counter() - start
                key = f"{engine_name}, {reading}"
                seconds[key] = min(seconds.get(key, passed), passed)
per_second = {key: round(PICTURES / one, 1) for key, one in seconds.items()}
print(json.dumps({**bench.machine(), "model": name, "batch_size": BATCH, "pictures_per_second": per_second}, indent=2))
