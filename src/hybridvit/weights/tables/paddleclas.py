"""PaddlePaddle/PaddleClas: ppcls/arch/backbone/model_zoo/cvt.py. The authors' names, Paddle's storage."""

from hybridvit.weights.mapping import Source
from hybridvit.weights.tables import microsoft, paddlevit

PADDLECLAS = Source(
    name="paddleclas",
    title="PaddlePaddle/PaddleClas CvT",
    family="cvt",
    format="paddle",
    table=tuple((ours, theirs, paddlevit.KINDS[ours]) for ours, theirs, _ in microsoft.TABLE),
)
