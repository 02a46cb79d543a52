"""One table per published implementation."""

from hybridvit.weights.mapping import Source
from hybridvit.weights.tables.flyegle import FLYEGLE
from hybridvit.weights.tables.huawei import HUAWEI
from hybridvit.weights.tables.kecam import KECAM, KECAM_OWN
from hybridvit.weights.tables.microsoft import MICROSOFT
from hybridvit.weights.tables.mindcv import MINDCV
from hybridvit.weights.tables.ours import OUR_CMT, OUR_CVT
from hybridvit.weights.tables.paddleclas import PADDLECLAS
from hybridvit.weights.tables.paddlevit import PADDLEVIT
from hybridvit.weights.tables.transformers import TRANSFORMERS

PUBLISHED: dict[str, Source] = {
    source.name: source
    for source in (MICROSOFT, TRANSFORMERS, PADDLEVIT, PADDLECLAS, HUAWEI, FLYEGLE, KECAM, KECAM_OWN, MINDCV)
}
SOURCES: dict[str, Source] = {**PUBLISHED, OUR_CVT.name: OUR_CVT, OUR_CMT.name: OUR_CMT}
