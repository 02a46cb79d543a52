"""Models on the Hugging Face hub: a checkpoint becomes a repository that timm and hybridvit read, with a card of what it knows.

A repository holds model.safetensors, timm's config.json with our entries beside timm's, and README.md. Nothing else is written,
and no pickle.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from safetensors.torch import save_file
from torch import nn

from hybridvit.errors import CheckpointError, ConfigError
from hybridvit.models import catalog
from hybridvit.output import to_json
from hybridvit.typed import plain
from hybridvit.weights import checkpoint, fetch
from hybridvit.weights.checkpoint import Checkpoint
from hybridvit.weights.load import read_checkpoint

PIPELINES = {
    "classification": "image-classification",
    "multilabel": "image-classification",
    "detection": "object-detection",
    "segmentation": "image-segmentation",
}
ON_THE_HUB = " on the Hugging Face hub"
"""How `download` ends the place of what came from there."""
MAX_NAMES = 20


def push_to_hub(
    model: nn.Module | str | Path,
    repository: str,
    *,
    licence: str | None = None,
    base_model: str | None = None,
    dataset: str | None = None,
    private: bool = False,
    dry_run: bool = False,
) -> str:
    """Make a repository of a model, or of a checkpoint's file, or renew it. Gives the card.

    A card that lies there already stays as it is, since its owner may have written in it: delete it there to get this one.

    Args:
        repository: OWNER/NAME.
        licence: as the hub spells it (apache-2.0, mit, other): nobody else can know it.
        base_model: the repository that training began from; where it is known from the file, by default that.
        dataset: the name of the data that the metrics were measured on.
        dry_run: make the card, and touch no network.

    Raises: ConfigError for a name that is none, or without a licence; CheckpointError as `load` and `save`; DownloadError when
        the hub refuses, or cannot be reached.
    """
    owner, _, name = repository.partition("/")
    if not owner or not name or "/" in name:
        raise ConfigError(f"{repository!r} is no repository of the hub: OWNER/NAME is.")
    if isinstance(model, nn.Module):
        found = checkpoint.of_model(model, metrics=getattr(model, "metrics", None), name=repository)
        checkpoint.refuse_non_finite(found.state, name=repository)
    else:
        found = read_checkpoint(model)
    if not licence:
        known = (found.origin or {}).get("licence")
        raise ConfigError(
            "Under which licence? Say it as the hub spells it: apache-2.0, mit, cc-by-4.0, other."
            + (f" The weights that it began from are under {known}." if known else "")
        )
    text = str(card(found, repository, licence=licence, base_model=base_model, dataset=dataset))
    if not dry_run:
        with tempfile.TemporaryDirectory() as folder:
            write_folder(found, Path(folder))
            (Path(folder) / "README.md").write_text(text, encoding="utf-8")
            fetch.push(Path(folder), repository, private=private)
    return text


def write_folder(found: Checkpoint, folder: Path) -> None:
    """config.json and model.safetensors, as timm reads them."""
    config = plain(checkpoint.described(found))
    config["pretrained_cfg"] |= {"num_classes": found.num_classes, "label_names": found.label_names}
    if found.architecture in catalog.ARCHITECTURES:
        with torch.device("meta"):
            config["num_features"] = catalog.create(found.architecture).num_features
        config["pretrained_cfg"] |= _layers(found.architecture)
    try:
        (folder / "config.json").write_text(to_json(config), encoding="utf-8")
        save_file(found.state, folder / "model.safetensors", metadata={"format": "pt"})
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be written: {error}") from error


def _layers(architecture: str) -> dict[str, Any]:
    """Which layers depend on the data: timm adapts the first, and renews the last."""
    own = catalog.pretrained_cfg_of(architecture)
    return {key: own[key] for key in ("first_conv", "classifier")}


# ---- the card ---------------------------------------------------------------------------------------------------------------


def card(
    found: Checkpoint, repository: str, *, licence: str, base_model: str | None = None, dataset: str | None = None
) -> ModelCard:
    """What the checkpoint knows of itself, and nothing that it does not."""
    origin, pipeline = found.origin or {}, PIPELINES.get(found.task)
    place = str(origin.get("place", ""))
    if base_model is None and place.endswith(ON_THE_HUB):
        base_model = place.removesuffix(ON_THE_HUB).rpartition("/")[0]
    data = ModelCardData(
        license=licence,
        library_name="timm",
        pipeline_tag=pipeline,
        tags=["hybridvit", "timm", *([pipeline] if pipeline else [])],
        base_model=base_model,
        model_name=repository,
        eval_results=_results(found, pipeline, dataset) or None,
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_text(found, repository, base_model)}")


def _figures(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    return {key: value for key, value in (metrics or {}).items() if type(value) in (int, float) and key != "epoch"}


def _results(found: Checkpoint, pipeline: str | None, dataset: str | None) -> list[EvalResult]:
    results = []
    for key, value in _figures(found.metrics).items():
        on = "ImageNet-1k" if key == "published_top1" else dataset or "the test pictures of its training run"
        results.append(
            EvalResult(
                task_type=pipeline or found.task,
                dataset_type=on.lower().replace(" ", "-"),
                dataset_name=on,
                metric_type="accuracy" if key in ("top1", "published_top1") else key,
                metric_name=key,
                metric_value=value,
            )
        )
    return results


def _text(found: Checkpoint, repository: str, base_model: str | None) -> str:
    size = " x ".join(map(str, found.preprocess.image_size))
    rows = {
        "architecture": found.architecture,
        "task": found.task,
        "classes": found.num_classes,
        "parameters": f"{sum(t.numel() for key, t in found.state.items() if t.is_floating_point() and 'running_' not in key):,}",
        "pictures": f"{size} pixels, {found.preprocess.interpolation}, crop_pct {found.preprocess.crop_pct:g}, "
        f"crop_mode {found.preprocess.crop_mode}",
        "mean, std": f"{found.preprocess.mean}, {found.preprocess.std}",
        "began from": base_model or (found.origin or {}).get("place") or (found.origin or {}).get("file"),
        **{f"metric: {key}": value for key, value in _figures(found.metrics).items()},
    }
    parts = [
        f"# {repository.partition('/')[2]}",
        "| | |\n| --- | --- |\n"
        + "\n".join(f"| {key} | {value} |" for key, value in rows.items() if value is not None),
        "## Use\n\n```python\nimport hybridvit\n\n" + f'model = hybridvit.load("hf://{repository}")\n```',
    ]
    if found.architecture in catalog.ARCHITECTURES:
        parts.append(
            "or with timm, to which `import hybridvit` gives the architecture:\n\n```python\nimport hybridvit\nimport timm\n\n"
            f'model = timm.create_model("hf-hub:{repository}", pretrained=True).eval()\n'
            "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))\n```"
        )
    if found.label_names:
        shown = ", ".join(found.label_names[:MAX_NAMES])
        more = f" and {len(found.label_names) - MAX_NAMES} more" if len(found.label_names) > MAX_NAMES else ""
        parts.append(f"## Classes\n\nIn the order of the logits: {shown}{more}.")
    if found.recipe:
        recipe = yaml.safe_dump(plain(found.recipe), sort_keys=False, allow_unicode=True)
        parts.append(f"## Recipe\n\n```yaml\n{recipe}```")
    return "\n\n".join(parts) + "\n"
