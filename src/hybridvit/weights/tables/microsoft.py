"""microsoft/CvT, the authors' release: lib/models/cls_cvt.py."""

from hybridvit.weights.mapping import BATCHNORM, LAYER, TENSOR, Row, Source

TABLE: tuple[Row, ...] = (
    # ours                                  theirs                                          kind
    ("stages.{i}.embed.conv",               "stage{i}.patch_embed.proj",                    LAYER),
    ("stages.{i}.embed.norm",               "stage{i}.patch_embed.norm",                    LAYER),
    ("stages.{i}.cls_token",                "stage{i}.cls_token",                           TENSOR),
    ("stages.{i}.blocks.{j}.norm1",         "stage{i}.blocks.{j}.norm1",                    LAYER),
    ("stages.{i}.blocks.{j}.attn.{x}.conv", "stage{i}.blocks.{j}.attn.conv_proj_{x}.conv",  LAYER),
    ("stages.{i}.blocks.{j}.attn.{x}.norm", "stage{i}.blocks.{j}.attn.conv_proj_{x}.bn",    BATCHNORM),
    ("stages.{i}.blocks.{j}.attn.{x}.linear", "stage{i}.blocks.{j}.attn.proj_{x}",          LAYER),
    ("stages.{i}.blocks.{j}.attn.proj",     "stage{i}.blocks.{j}.attn.proj",                LAYER),
    ("stages.{i}.blocks.{j}.norm2",         "stage{i}.blocks.{j}.norm2",                    LAYER),
    ("stages.{i}.blocks.{j}.mlp.fc1",       "stage{i}.blocks.{j}.mlp.fc1",                  LAYER),
    ("stages.{i}.blocks.{j}.mlp.fc2",       "stage{i}.blocks.{j}.mlp.fc2",                  LAYER),
    ("norm",                                "norm",                                         LAYER),
    ("head",                                "head",                                         LAYER),
)  # fmt: skip

MICROSOFT = Source(name="microsoft", title="microsoft/CvT (the authors)", family="cvt", format="torch", table=TABLE)
