"""huawei-noah/Efficient-AI-Backbones and ggjy/CMT.pytorch, the authors' release: cmt_pytorch/cmt.py."""

from hybridvit.weights.mapping import BATCHNORM, JOINED, LAYER, TENSOR, Row, Source

BLOCK = "blocks_{i:letter}.{j}"

TABLE: tuple[Row, ...] = (
    # ours                                        theirs                                      kind
    ("stem.{i}.conv",                             "stem_conv{i+1}",                           LAYER),
    ("stem.{i}.norm",                             "stem_norm{i+1}",                           BATCHNORM),
    ("stages.{i}.embed.conv",                     "patch_embed_{i:letter}.proj",              LAYER),
    ("stages.{i}.embed.norm",                     "patch_embed_{i:letter}.norm",              LAYER),
    ("stages.{i}.position.table",                 "relative_pos_{i:letter}",                  TENSOR),
    ("stages.{i}.blocks.{j}.lpu",                 BLOCK + ".proj",                            LAYER),
    ("stages.{i}.blocks.{j}.norm1",               BLOCK + ".norm1",                           LAYER),
    ("stages.{i}.blocks.{j}.attn.q",              BLOCK + ".attn.q",                          LAYER),
    ("stages.{i}.blocks.{j}.attn.kv",             (BLOCK + ".attn.k", BLOCK + ".attn.v"),     JOINED),
    ("stages.{i}.blocks.{j}.attn.reduce.conv",    BLOCK + ".attn.sr.0",                       LAYER),
    ("stages.{i}.blocks.{j}.attn.reduce.norm",    BLOCK + ".attn.sr.1",                       BATCHNORM),
    ("stages.{i}.blocks.{j}.attn.proj",           BLOCK + ".attn.proj",                       LAYER),
    ("stages.{i}.blocks.{j}.norm2",               BLOCK + ".norm2",                           LAYER),
    ("stages.{i}.blocks.{j}.ffn.expand.conv",     BLOCK + ".mlp.conv1.0",                     LAYER),
    ("stages.{i}.blocks.{j}.ffn.expand.norm",     BLOCK + ".mlp.conv1.2",                     BATCHNORM),
    ("stages.{i}.blocks.{j}.ffn.local.conv",      BLOCK + ".mlp.proj",                        LAYER),
    ("stages.{i}.blocks.{j}.ffn.local.norm",      BLOCK + ".mlp.proj_bn",                     BATCHNORM),
    ("stages.{i}.blocks.{j}.ffn.project.conv",    BLOCK + ".mlp.conv2.0",                     LAYER),
    ("stages.{i}.blocks.{j}.ffn.project.norm",    BLOCK + ".mlp.conv2.1",                     BATCHNORM),
    ("head.conv",                                 "_fc",                                      LAYER),
    ("head.norm",                                 "_bn",                                      BATCHNORM),
    ("head.fc",                                   "head",                                     LAYER),
)  # fmt: skip

HUAWEI = Source(
    name="huawei",
    title="huawei CMT (the authors)",
    family="cmt",
    format="torch",
    table=TABLE,
    layout="model",
)
