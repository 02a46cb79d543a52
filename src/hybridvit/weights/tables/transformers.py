"""Hugging Face transformers: models/cvt/modeling_cvt.py. It computes with the exact GELU where the authors have QuickGELU."""

from collections.abc import Sequence

from hybridvit.weights.mapping import BATCHNORM, LAYER, TENSOR, Row, Source

STAGE = "cvt.encoder.stages.{i}"
BLOCK = STAGE + ".layers.{j}"
PROJECTION = BLOCK + ".attention.attention.convolution_projection_{x:word}.convolution_projection"

TABLE: tuple[Row, ...] = (
    # ours                                    theirs                                                       kind
    ("stages.{i}.embed.conv",                 STAGE + ".embedding.convolution_embeddings.projection",      LAYER),
    ("stages.{i}.embed.norm",                 STAGE + ".embedding.convolution_embeddings.normalization",   LAYER),
    ("stages.{i}.cls_token",                  STAGE + ".cls_token",                                        TENSOR),
    ("stages.{i}.blocks.{j}.norm1",           BLOCK + ".layernorm_before",                                 LAYER),
    ("stages.{i}.blocks.{j}.attn.{x}.conv",   PROJECTION + ".convolution",                                 LAYER),
    ("stages.{i}.blocks.{j}.attn.{x}.norm",   PROJECTION + ".normalization",                               BATCHNORM),
    ("stages.{i}.blocks.{j}.attn.{x}.linear", BLOCK + ".attention.attention.projection_{x:word}",          LAYER),
    ("stages.{i}.blocks.{j}.attn.proj",       BLOCK + ".attention.output.dense",                           LAYER),
    ("stages.{i}.blocks.{j}.norm2",           BLOCK + ".layernorm_after",                                  LAYER),
    ("stages.{i}.blocks.{j}.mlp.fc1",         BLOCK + ".intermediate.dense",                               LAYER),
    ("stages.{i}.blocks.{j}.mlp.fc2",         BLOCK + ".output.dense",                                     LAYER),
    ("norm",                                  "layernorm",                                                 LAYER),
    ("head",                                  "classifier",                                                LAYER),
)  # fmt: skip


def canonical(key: str) -> str:
    """CvtModel, the model without a head, writes no "cvt."."""
    return f"cvt.{key}" if key.startswith("encoder.") else key


def dialect(keys: Sequence[str]) -> str:
    return "bare" if any(key.startswith("encoder.") for key in keys) else ""


def spell(key: str, dialect: str) -> str:
    return key.removeprefix("cvt.") if dialect == "bare" else key


TRANSFORMERS = Source(
    name="transformers",
    title="Hugging Face transformers CvT",
    family="cvt",
    format="safetensors",
    table=TABLE,
    suffixes=("_gelu", ""),
    variant=lambda shapes: ("_gelu", {}),
    canonical=canonical,
    dialect=dialect,
    spell=spell,
)
