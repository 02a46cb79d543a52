"""Names to models: the front door for those who do not hold a file."""

from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from hybridvit.models import catalog

if TYPE_CHECKING:
    from hybridvit.models.backbone import Backbone


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Names that match `pattern` ("cmt_*"); with `pretrained`, architecture and tag of all published weights."""
    return [name for name in (catalog.WEIGHTS if pretrained else catalog.ARCHITECTURES) if fnmatch(name, pattern)]


def create_model(name: str, pretrained: bool = False, **kwargs: Any) -> "Backbone":
    """Build a model by name, whoever else may have registered that name with timm.

    Args:
        name: "cvt_13", or with a tag "cvt_13.ms_in1k".
        pretrained: fetch, check, convert and load the published weights.
        kwargs: see `hybridvit.models.catalog.create`.

    Raises: ConfigError for an unknown name, DownloadError for weights that cannot be had.
    """
    return catalog.create(name, **kwargs)
