"""One table per published implementation."""

from hybridvit.weights.mapping import Source
from hybridvit.weights.sources.flyegle import FLYEGLE
from hybridvit.weights.sources.huawei import HUAWEI
from hybridvit.weights.sources.kecam import KECAM, KECAM_OWN
from hybridvit.weights.sources.microsoft import MICROSOFT
from hybridvit.weights.sources.mindcv import MINDCV
from hybridvit.weights.sources.ours import OUR_CMT, OUR_CVT
from hybridvit.weights.sources.paddleclas import PADDLECLAS
from hybridvit.weights.sources.paddlevit import PADDLEVIT
from hybridvit.weights.sources.transformers import TRANSFORMERS

PUBLISHED: dict[str, Source] = {
    source.name: source
    for source in (MICROSOFT, TRANSFORMERS, PADDLEVIT, PADDLECLAS, HUAWEI, FLYEGLE, KECAM, KECAM_OWN, MINDCV)
}
SOURCES: dict[str, Source] = {**PUBLISHED, OUR_CVT.name: OUR_CVT, OUR_CMT.name: OUR_CMT}
