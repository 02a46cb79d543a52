"""PaddlePaddle/PaddleClas: ppcls/arch/backbone/model_zoo/cvt.py. The authors' names, Paddle's storage."""

from hybridvit.weights.mapping import LAYER, TENSOR, Row, Source
from hybridvit.weights.sources.paddlevit import BATCHNORM, LINEAR

TABLE: tuple[Row, ...] = (
    # ours                                    theirs                                          kind
    ("stages.{i}.embed.conv",                 "stage{i}.patch_embed.proj",                    LAYER),
    ("stages.{i}.embed.norm",                 "stage{i}.patch_embed.norm",                    LAYER),
    ("stages.{i}.cls_token",                  "stage{i}.cls_token",                           TENSOR),
    ("stages.{i}.blocks.{j}.norm1",           "stage{i}.blocks.{j}.norm1",                    LAYER),
    ("stages.{i}.blocks.{j}.attn.{x}.conv",   "stage{i}.blocks.{j}.attn.conv_proj_{x}.conv",  LAYER),
    ("stages.{i}.blocks.{j}.attn.{x}.norm",   "stage{i}.blocks.{j}.attn.conv_proj_{x}.bn",    BATCHNORM),
    ("stages.{i}.blocks.{j}.attn.{x}.linear", "stage{i}.blocks.{j}.attn.proj_{x}",            LINEAR),
    ("stages.{i}.blocks.{j}.attn.proj",       "stage{i}.blocks.{j}.attn.proj",                LINEAR),
    ("stages.{i}.blocks.{j}.norm2",           "stage{i}.blocks.{j}.norm2",                    LAYER),
    ("stages.{i}.blocks.{j}.mlp.fc1",         "stage{i}.blocks.{j}.mlp.fc1",                  LINEAR),
    ("stages.{i}.blocks.{j}.mlp.fc2",         "stage{i}.blocks.{j}.mlp.fc2",                  LINEAR),
    ("norm",                                  "norm",                                         LAYER),
    ("head",                                  "head",                                         LINEAR),
)  # fmt: skip

PADDLECLAS = Source(name="paddleclas", title="PaddlePaddle/PaddleClas CvT", family="cvt", format="paddle", table=TABLE)
