"""mindspore-lab/mindcv: mindcv/models/cmt.py. The authors' names with MindSpore's words for norms.

Its position tables are constant zeros that no checkpoint holds.
"""

from hybridvit.weights.mapping import BATCHNORM, LAYER, NO_COUNTER, TENSOR, Kind, Leaf, Row, Source
from hybridvit.weights.tables import huawei

NORM: Kind = {"weight": Leaf("gamma"), "bias": Leaf("beta")}
STATISTICS: Kind = {"running_mean": Leaf("moving_mean"), "running_var": Leaf("moving_variance"), **NO_COUNTER}
POSITIONS: Kind = {"": Leaf("", may_lack=True)}


def _kind(ours: str, kind: Kind) -> Kind:
    if kind is BATCHNORM:
        return {**NORM, **STATISTICS}
    if kind is LAYER and "norm" in ours:
        return NORM
    return POSITIONS if kind is TENSOR else kind


TABLE: tuple[Row, ...] = tuple((ours, theirs, _kind(ours, kind)) for ours, theirs, kind in huawei.TABLE)

MINDCV = Source(
    name="mindcv",
    title="MindCV CMT",
    family="cmt",
    format="mindspore",
    table=TABLE,
    suffixes=("_mindcv",),
    variant=lambda shapes: ("_mindcv", {}),
)
