"""hybridvit: CMT and CvT, the models in which convolutions meet vision transformers.

    import hybridvit, timm

    model = hybridvit.create_model("cvt_13", num_classes=10)
    model = timm.create_model("cmt_s", features_only=True)     # the same names, for all of timm
    model = hybridvit.load("any_published_checkpoint.pth")

Importing this package is instant: torch comes with the first name that needs it, and the names are given to timm as soon as
timm is imported, before or after.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wrapt import register_post_import_hook

if TYPE_CHECKING:
    from hybridvit.allocator import keep_memory as keep_memory
    from hybridvit.api import evaluate as evaluate
    from hybridvit.api import train as train
    from hybridvit.attribution.explain import explain as explain
    from hybridvit.compare.align import align as align
    from hybridvit.config import list_recipes as list_recipes
    from hybridvit.config import load_recipe as load_recipe
    from hybridvit.deploy.bench import bench as bench
    from hybridvit.deploy.export import export as export
    from hybridvit.deploy.fuse import fuse as fuse
    from hybridvit.deploy.opening import load as load
    from hybridvit.evaluation.windows import segment as segment
    from hybridvit.inference.predict import embed as embed
    from hybridvit.inference.predict import predict as predict
    from hybridvit.inference.predictor import Predictor as Predictor
    from hybridvit.report.data import check_data as check_data
    from hybridvit.report.file import write_report as write_report
    from hybridvit.report.run import compare_runs as compare_runs
    from hybridvit.serve.server import run_server as run_server
    from hybridvit.training.sweep import sweep as sweep
    from hybridvit.weights.checkpoint import save as save
    from hybridvit.weights.convert import convert as convert
    from hybridvit.weights.convert import export_weights as export_weights
    from hybridvit.weights.download import download as download
    from hybridvit.weights.hub import push_to_hub as push_to_hub
    from hybridvit.weights.load import inspect as inspect
    from hybridvit.weights.pretrained import create_model as create_model
    from hybridvit.weights.pretrained import list_models as list_models

__version__ = "0.1.0"

_PUBLIC = {
    "Predictor": "hybridvit.inference.predictor",
    "align": "hybridvit.compare.align",
    "bench": "hybridvit.deploy.bench",
    "check_data": "hybridvit.report.data",
    "compare_runs": "hybridvit.report.run",
    "convert": "hybridvit.weights.convert",
    "create_model": "hybridvit.weights.pretrained",
    "download": "hybridvit.weights.download",
    "embed": "hybridvit.inference.predict",
    "evaluate": "hybridvit.api",
    "explain": "hybridvit.attribution.explain",
    "export": "hybridvit.deploy.export",
    "export_weights": "hybridvit.weights.convert",
    "fuse": "hybridvit.deploy.fuse",
    "inspect": "hybridvit.weights.load",
    "keep_memory": "hybridvit.allocator",
    "list_models": "hybridvit.weights.pretrained",
    "list_recipes": "hybridvit.config",
    "load": "hybridvit.deploy.opening",
    "load_recipe": "hybridvit.config",
    "predict": "hybridvit.inference.predict",
    "push_to_hub": "hybridvit.weights.hub",
    "run_server": "hybridvit.serve.server",
    "save": "hybridvit.weights.checkpoint",
    "segment": "hybridvit.evaluation.windows",
    "sweep": "hybridvit.training.sweep",
    "train": "hybridvit.api",
    "write_report": "hybridvit.report.file",
}
__all__ = [
    "Predictor",
    "align",
    "bench",
    "check_data",
    "compare_runs",
    "convert",
    "create_model",
    "download",
    "embed",
    "evaluate",
    "explain",
    "export",
    "export_weights",
    "fuse",
    "inspect",
    "keep_memory",
    "list_models",
    "list_recipes",
    "load",
    "load_recipe",
    "predict",
    "push_to_hub",
    "run_server",
    "save",
    "segment",
    "sweep",
    "train",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'hybridvit' has no attribute {name!r}; public names: {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])


register_post_import_hook(lambda timm: import_module("hybridvit.weights.timm_registry").register(timm), "timm")
