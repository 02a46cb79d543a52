"""The plain and the fused models against ResNet-50. On a busy machine: one thread, in processor time, by turns.

OMP_NUM_THREADS=1 python benchmarks/speed.py > benchmarks/speed.json
"""

import json
import time

import torch

from hybridvit.deploy import bench

torch.set_num_threads(1)
runs = []
for batch_size, rounds in ((1, 8), (8, 3)):
    timings = bench.run(
        ["resnet50", "cvt_13", "cmt_s"],
        engine_names=["eager", "fused"],
        batch_size=batch_size,
        rounds=rounds,
        clock=time.process_time,
    )
    runs.append({"batch_size": batch_size, "rounds": rounds, "timings": [timing.to_dict() for timing in timings]})
ratios = {
    f"{timing['model']}_{timing['engine']}_{run['batch_size']}": round(timing["ratio"], 2)
    for run in runs
    for timing in run["timings"]
}
print(json.dumps({**bench.machine(), "clock": "processor time", "ratios": ratios, "runs": runs}, indent=2))
