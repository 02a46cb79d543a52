"""Model cards and the list of recipes, written from the package whenever the site is built (a hook of mkdocs): never stale."""

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from hybridvit.config import RECIPES, Preprocess, list_recipes, load_recipe
from hybridvit.models.catalog import ARCHITECTURES, Architecture
from hybridvit.models.cmt import stage_grids
from hybridvit.models.configs import CMTConfig, CvTConfig
from hybridvit.models.position import key_grid
from hybridvit.weights.published import WEIGHTS

PUBLISHED: dict[str, dict[str, str]] = {
    "cvt_13.ms_in1k": {"top-5": "95.72", "ReaL": "86.7", "V2": "70.4"},
    "cvt_21.ms_in1k": {"top-5": "96.06", "ReaL": "87.2", "V2": "71.3"},
    "cvt_13.ms_in1k_384": {"top-5": "96.36", "ReaL": "87.9", "V2": "71.9"},
    "cvt_21.ms_in1k_384": {"top-5": "96.16", "ReaL": "87.7", "V2": "71.9"},
    "cvt_13.ms_in22k_ft_in1k_384": {"top-5": "97.09", "ReaL": "88.7", "V2": "72.9"},
    "cvt_21.ms_in22k_ft_in1k_384": {"top-5": "97.62", "ReaL": "89.8", "V2": "75.6"},
    "cvt_w24.ms_in22k_ft_in1k_384": {"top-5": "98.47", "ReaL": "90.6", "V2": "78.8"},
    "cmt_ti.huawei_in1k": {"top-5": "94.6"},
    "cmt_xs.huawei_in1k": {"top-5": "95.8"},
    "cmt_s.huawei_in1k": {"top-5": "96.6"},
    "cmt_b.huawei_in1k": {"top-5": "96.9"},
}
"""Beyond top-1, from arXiv 2103.15808 (CvT) and 2107.06263 (CMT): percent on ImageNet, its ReaL labels and ImageNet-V2."""

TRANSFER: dict[str, str] = {
    "cvt_13": "pre-trained on ImageNet-22k: CIFAR-10 98.83, CIFAR-100 91.11, Pets 93.25, Flowers 99.50",
    "cvt_21": "pre-trained on ImageNet-22k: CIFAR-10 99.16, CIFAR-100 92.88, Pets 94.03, Flowers 99.62",
    "cvt_w24": "pre-trained on ImageNet-22k: CIFAR-10 99.39, CIFAR-100 94.09, Pets 94.73, Flowers 99.72",
    "cmt_s": "CIFAR-10 99.2, CIFAR-100 91.7, Cars 94.4, Flowers 98.7, Pets 95.2; COCO 1x: RetinaNet 44.3 AP, "
    "Mask R-CNN 44.6 box and 40.7 mask AP",
}

CAVEATS: dict[str, tuple[str, ...]] = {
    "cvt_13": ("The hub's files are the authors' weights; transformers computes them with another GELU, we do not.",),
    "cvt_21": (
        "The released recipe for 224 pixels turns RandAugment, erasing and jitter off (`USE_LOADER: false`); "
        "the one for 384 does not.",
    ),
    "cvt_w24": (
        "The paper says 87.7 % top-1, the release 87.6 %.",
        "Published for 384 pixels only. 277 million parameters are 1.1 GB of float32.",
    ),
    "cmt_ti": (
        "The paper says 79.2 % top-1, the release 79.0 %.",
        "The authors' README and their thread disagree about the recipe; see `hybridvit recipes`.",
    ),
    "cmt_xs": ("The paper gives a feed-forward ratio of 3.8, the released weights have 3.77.",),
    "cmt_s": ("The paper counts 25.14 million parameters, the released model has 26.26 million.",),
    "cmt_b": (),
    "cmt_l": (
        "No weights and no code were ever released. Stem 44, widths 88 to 704 and depths 5, 5, 25, 5 are inferred: they give the "
        "published parameters (74.7 million) and multiply-accumulates (19.5 G at 288 pixels).",
    ),
    "cvt_nano": ("Ours, for small pictures; it has nothing to do with the paper's figures.",),
    "cmt_nano": ("Ours, for small pictures; three stages instead of four.",),
}
SIZES = tuple(CAVEATS)
PAPERS = {
    "cvt": "[arXiv 2103.15808](https://arxiv.org/abs/2103.15808)",
    "cmt": "[arXiv 2107.06263](https://arxiv.org/abs/2107.06263)",
}
WORDS = {"cvt": "CvT", "cmt": "CMT"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those on disk."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def pages() -> dict[str, str]:
    """Path below docs/ -> Markdown."""
    cards = {f"models/{size}.md": card(size) for size in SIZES}
    return {"models/index.md": overview(), "recipes.md": recipes()} | cards


def title(name: str) -> str:
    family, size = name.split("_")[:2]
    return f"{WORDS[family]}-{size if size[0].isdigit() or size == 'nano' else size.capitalize() if size != 'xs' else 'XS'}"


def variants(size: str) -> dict[str, Architecture]:
    """The architectures of one size: the authors' arithmetic, then the others."""
    return {name: entry for name, entry in ARCHITECTURES.items() if name == size or name.startswith(f"{size}_")}


def table(headers: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [list(headers), *([str(cell) if cell is not None else "–" for cell in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"


def overview() -> str:
    """All sizes in one table, all arithmetics in a second."""
    sizes = [
        [
            f"[{title(name)}]({name}.md)",
            f"`{name}`",
            pixels((entry := ARCHITECTURES[name]).preprocess.image_size),
            f"{entry.params / 1e6:.2f} M",
            f"{entry.gmacs} G" if entry.gmacs else None,
            f"{entry.top1} %" if entry.top1 else None,
            sum(weights.partition(".")[0] in variants(name) for weights in WEIGHTS) or None,
        ]
        for name in SIZES
    ]
    others = [
        [f"`{name}`", entry.source, f"{entry.params / 1e6:.2f} M", entry.note or None]
        for name, entry in ARCHITECTURES.items()
        if name not in SIZES
    ]
    return f"""# Models

Parameters are exact, with 1000 classes. Multiply-accumulates and top-1 are as published, on ImageNet-1k at that size, of weights
trained on ImageNet-1k alone; the sets of weights, with those from ImageNet-22k, stand on each model's page.

{table(("model", "name", "pixels", "parameters", "MACs", "top-1", "sets of weights"), sizes)}

## Other arithmetics

The same sizes as other implementations compute them. A file from one of these opens as its own architecture, so that it says
here what it says there; [Where the implementations differ](../differences.md) has every difference.

{table(("name", "source", "parameters", "note"), others)}

The same lists: `hybridvit models`, `hybridvit models --json`, `hybridvit.list_models()`, `timm.list_models("cmt_*")`.
"""


def card(size: str) -> str:
    entry = ARCHITECTURES[size]
    family = size.partition("_")[0]
    facts = [
        ["parameters", f"{entry.params:,}".replace(",", " ") + " (1000 classes)"],
        [
            "multiply-accumulates",
            f"{entry.gmacs} G at {entry.preprocess.image_size[0]} pixels" if entry.gmacs else "not published",
        ],
        ["pictures", sees(entry.preprocess)],
        ["paper", PAPERS[family] if entry.source != "hybridvit" else "none: made for this project"],
        ["source", entry.source],
    ]
    if entry.top1:
        facts.insert(2, ["published top-1", f"{entry.top1} % (ImageNet-1k alone)"])
    if size in TRANSFER:
        facts.insert(3, ["published transfer, %", TRANSFER[size]])
    parts = [
        f"# {title(size)}",
        table(facts[0], facts[1:]),
        "## Weights",
        weights_of(size),
        "## Use",
        usage(size),
        "## Shapes",
        f"For a picture of {pixels(entry.preprocess.image_size)} pixels. How the parts work: "
        f"[How CMT and CvT work](../how-they-work.md).",
        table(("stage", "channels", "grid of queries", "grid of keys", "heads", "blocks"), stages(entry)),
    ]
    if len(variants(size)) > 1:
        parts += ["## Other arithmetics", arithmetics(size)]
    if CAVEATS[size]:
        parts += ["## Worth knowing", "\n".join(f"- {caveat}" for caveat in CAVEATS[size])]
    return "\n\n".join(parts) + "\n"


def sees(preprocess: Preprocess) -> str:
    rows, columns = preprocess.image_size
    if preprocess.crop_mode == "squash":
        return f"resized straight to {rows} × {columns}, {preprocess.interpolation}"
    resized = math.floor(rows / preprocess.crop_pct)  # as timm rounds
    crop = f", centre crop {rows}" if resized != rows else ", centre crop"
    return f"short side resized to {resized}, {preprocess.interpolation}{crop}"


def weights_of(size: str) -> str:
    found = {name: entry for name, entry in WEIGHTS.items() if name.partition(".")[0] in variants(size)}
    if not found:
        return "None published."
    extra = [key for key in ("top-5", "ReaL", "V2") if any(key in PUBLISHED.get(name, {}) for name in found)]
    rows = []
    for name, entry in found.items():
        hub = f"[{entry.hub_id}](https://huggingface.co/{entry.hub_id})"
        place = hub if entry.hub_id else f"[file]({entry.url})" if entry.url else f"by hand: {entry.by_hand}"
        figures = [PUBLISHED.get(name, {}).get(key) for key in extra]
        rows.append([f"`{name}`", sees(entry.preprocess), entry.top1, *figures, entry.licence, place])
    return table(("name", "preprocessing", "top-1", *extra, "licence", "published at"), rows) + (
        "\n\nFigures are the publishers', in percent; none was measured again here. `hybridvit download NAME` fetches a set, "
        "checks and converts it."
    )


def usage(size: str) -> str:
    has_weights = any(name.partition(".")[0] == size for name in WEIGHTS)
    return f"""```python
import hybridvit
import timm

model = hybridvit.create_model("{size}", num_classes=10{", pretrained=True" if has_weights else ""})
model = timm.create_model("{size}", num_classes=10{", pretrained=True" if has_weights else ""})  # the same
```"""


def stages(entry: Architecture) -> list[list[object]]:
    """Per stage: number, channels, grid of queries, grid of keys, heads, blocks."""
    config, size = entry.config, entry.preprocess.image_size
    if isinstance(config, CMTConfig):
        grids = stage_grids(config, size)
        keys = [key_grid(grid, reduction) for grid, reduction in zip(grids, config.reductions, strict=True)]
    else:
        grids = cvt_grids(config, size)
        keys = [((rows + 1) // 2, (columns + 1) // 2) for rows, columns in grids]
    last = len(grids) - 1
    token = " + class token" if isinstance(config, CvTConfig) else ""
    return [
        [i + 1, dim, pixels(grid) + token * (i == last), pixels(key) + token * (i == last), heads, depth]
        for i, (dim, grid, key, heads, depth) in enumerate(
            zip(config.dims, grids, keys, config.heads, config.depths, strict=True)
        )
    ]


def cvt_grids(config: CvTConfig, size: tuple[int, int]) -> list[tuple[int, int]]:
    """What each stage's convolution leaves of the grid before it."""
    grids = []
    rows, columns = size
    for kernel, stride, padding in zip(config.embed_kernels, config.embed_strides, config.embed_paddings, strict=True):
        rows, columns = ((side + 2 * padding - kernel) // stride + 1 for side in (rows, columns))
        grids.append((rows, columns))
    return grids


def arithmetics(size: str) -> str:
    own = asdict(ARCHITECTURES[size].config)
    rows = []
    for name, entry in variants(size).items():
        if name != size:
            changed: dict[str, Any] = {key: value for key, value in asdict(entry.config).items() if value != own[key]}
            fields = ", ".join(f"`{key}={value!r}`" for key, value in changed.items())
            rows.append([f"`{name}`", entry.source, f"{entry.params / 1e6:.2f} M", fields])
    return table(("name", "source", "parameters", "what differs from the authors"), rows)


def recipes() -> str:
    """Every recipe with its header, where disagreements between sources stand, and its values."""
    parts = [
        "# Recipes",
        "Each recipe states its source, its cost and whether it was reproduced here. Where sources disagree, both values stand. "
        "`hybridvit recipes` lists them, `hybridvit train NAME --print` resolves one.",
    ]
    named = {name: load_recipe(name) for name in list_recipes()}
    rows = [
        [f"[`{name}`](#{name.replace('/', '')})", f"`{recipe.model.name}`", recipe.about.title, recipe.about.status]
        for name, recipe in named.items()
    ]
    parts.append(table(("recipe", "model", "what", "status"), rows))
    for name, recipe in named.items():
        text = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")
        lines = text.splitlines()
        length = next(k for k, line in enumerate(lines) if not line.startswith("#"))
        header = " ".join(line.removeprefix("#").strip() for line in lines[:length])
        facts = [["source", recipe.about.source], ["cost", recipe.about.cost], ["status", recipe.about.status]]
        body = "\n".join(f"    {line}".rstrip() for line in lines[length:])
        parts += [f"## {name}", header, table(facts[0], facts[1:])]
        parts.append(f"```sh\n{recipe.about.command}\n```")
        parts.append(f'??? note "{name}.yaml"\n\n    ```yaml\n{body}\n    ```')
    return "\n\n".join(parts) + "\n"
