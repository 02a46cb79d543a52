"""BR-IDL/PaddleViT: image_classification/CvT/cvt.py. Linear weights are stored (in, out)."""

from hybridvit.weights.mapping import LAYER, NO_COUNTER, TENSOR, TRANSPOSE, Kind, Leaf, Row, Source

LINEAR: Kind = {"weight": Leaf("weight", TRANSPOSE), "bias": Leaf("bias")}
BATCHNORM: Kind = {**LAYER, "running_mean": Leaf("_mean"), "running_var": Leaf("_variance"), **NO_COUNTER}

TABLE: tuple[Row, ...] = (
    # ours                                    theirs                                          kind
    ("stages.{i}.embed.conv",                 "stages.{i}.patch_embed.proj",                  LAYER),
    ("stages.{i}.embed.norm",                 "stages.{i}.patch_embed.norm",                  LAYER),
    ("stages.{i}.cls_token",                  "stages.{i}.cls_token",                         TENSOR),
    ("stages.{i}.blocks.{j}.norm1",           "stages.{i}.blocks.{j}.norm1",                  LAYER),
    ("stages.{i}.blocks.{j}.attn.{x}.conv",   "stages.{i}.blocks.{j}.attn.conv_proj_{x}.0",   LAYER),
    ("stages.{i}.blocks.{j}.attn.{x}.norm",   "stages.{i}.blocks.{j}.attn.conv_proj_{x}.1",   BATCHNORM),
    ("stages.{i}.blocks.{j}.attn.{x}.linear", "stages.{i}.blocks.{j}.attn.proj_{x}",          LINEAR),
    ("stages.{i}.blocks.{j}.attn.proj",       "stages.{i}.blocks.{j}.attn.proj",              LINEAR),
    ("stages.{i}.blocks.{j}.norm2",           "stages.{i}.blocks.{j}.norm2",                  LAYER),
    ("stages.{i}.blocks.{j}.mlp.fc1",         "stages.{i}.blocks.{j}.mlp.fc1",                LINEAR),
    ("stages.{i}.blocks.{j}.mlp.fc2",         "stages.{i}.blocks.{j}.mlp.fc2",                LINEAR),
    ("norm",                                  "norm",                                         LAYER),
    ("head",                                  "head",                                         LINEAR),
)  # fmt: skip
KINDS: dict[str, Kind] = {ours: kind for ours, _, kind in TABLE}

PADDLEVIT = Source(name="paddlevit", title="BR-IDL/PaddleViT CvT", family="cvt", format="paddle", table=TABLE)
