"""mindspore-lab/mindcv: mindcv/models/cmt.py. The authors' names with MindSpore's words for norms.

Its position tables are constant zeros that no checkpoint holds.
"""

from hybridvit.weights.mapping import JOINED, LAYER, NO_COUNTER, Kind, Leaf, Row, Source

NORM: Kind = {"weight": Leaf("gamma"), "bias": Leaf("beta")}
BATCHNORM: Kind = {
    **NORM,
    "running_mean": Leaf("moving_mean"),
    "running_var": Leaf("moving_variance"),
    **NO_COUNTER,
}
POSITIONS: Kind = {"": Leaf("", may_lack=True)}

BLOCK = "blocks_{i:letter}.{j}"

TABLE: tuple[Row, ...] = (
    # ours                                        theirs                                      kind
    ("stem.{i}.conv",                             "stem_conv{i+1}",                           LAYER),
    ("stem.{i}.norm",                             "stem_norm{i+1}",                           BATCHNORM),
    ("stages.{i}.embed.conv",                     "patch_embed_{i:letter}.proj",              LAYER),
    ("stages.{i}.embed.norm",                     "patch_embed_{i:letter}.norm",              NORM),
    ("stages.{i}.position.table",                 "relative_pos_{i:letter}",                  POSITIONS),
    ("stages.{i}.blocks.{j}.lpu",                 BLOCK + ".proj",                            LAYER),
    ("stages.{i}.blocks.{j}.norm1",               BLOCK + ".norm1",                           NORM),
    ("stages.{i}.blocks.{j}.attn.q",              BLOCK + ".attn.q",                          LAYER),
    ("stages.{i}.blocks.{j}.attn.kv",             (BLOCK + ".attn.k", BLOCK + ".attn.v"),     JOINED),
    ("stages.{i}.blocks.{j}.attn.reduce.conv",    BLOCK + ".attn.sr.0",                       LAYER),
    ("stages.{i}.blocks.{j}.attn.reduce.norm",    BLOCK + ".attn.sr.1",                       BATCHNORM),
    ("stages.{i}.blocks.{j}.attn.proj",           BLOCK + ".attn.proj",                       LAYER),
    ("stages.{i}.blocks.{j}.norm2",               BLOCK + ".norm2",                           NORM),
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

MINDCV = Source(
    name="mindcv",
    title="MindCV CMT",
    family="cmt",
    format="mindspore",
    table=TABLE,
    suffixes=("_mindcv",),
    variant=lambda shapes: ("_mindcv", {}),
)
