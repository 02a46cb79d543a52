"""Our own names in a container that does not say what is inside: a training script's state dict, or timm's files.

Every arithmetic of one size has the same names and shapes, so the architecture's name must come from elsewhere: the checkpoint's
"arch", a config.json beside it, or the command line.
"""

from collections.abc import Iterable

from hybridvit.weights.mapping import Kind, Leaf, Row, Source
from hybridvit.weights.tables import flyegle, huawei, kecam, microsoft


def _as_ours(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The first column on both sides; where kinds differ, all their tensors."""
    kinds: dict[str, Kind] = {}
    for ours, _, kind in rows:
        kinds[ours] = {
            **kinds.get(ours, {}),
            **{name: Leaf(name, may_lack=leaf.may_lack) for name, leaf in kind.items()},
        }
    return tuple((ours, ours, kind) for ours, kind in kinds.items())


OUR_CVT = Source(
    name="hybridvit-cvt",
    title="hybridvit's or timm's names, CvT",
    family="cvt",
    format="torch",
    table=_as_ours(microsoft.TABLE),
    suffixes=("", "_gelu"),
)
OUR_CMT = Source(
    name="hybridvit-cmt",
    title="hybridvit's or timm's names, CMT",
    family="cmt",
    format="torch",
    table=_as_ours((*huawei.TABLE, *flyegle.TABLE, *kecam.OWN)),
    suffixes=("", "_flyegle", "_kecam", "_kecam_port", "_mindcv"),
)
