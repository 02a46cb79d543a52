"""FlyEgle/CMT-pytorch: model/Transformers/CMT/cmt.py, written before the authors' release.

k and v share one linear layer whose fastest index tells them apart: channel (d * heads + h) * 2 + {0: k, 1: v}.
"""

from typing import Any

from hybridvit.weights.mapping import BATCHNORM, LAYER, PACKED, TENSOR, Row, Shapes, Source

BLOCK = "stage{i+1}.block_list.{j}"
ATTENTION = BLOCK + ".LMHSA"
FFN = BLOCK + ".IRFFN"

TABLE: tuple[Row, ...] = (
    # ours                                        theirs                                              kind
    ("stem.0.conv",                               "stem.conv3x3_gelu_bn_downsample.conv3x3_gelu_bn.0", LAYER),
    ("stem.0.norm",                               "stem.conv3x3_gelu_bn_downsample.conv3x3_gelu_bn.2", BATCHNORM),
    ("stem.{j+1}.conv",                           "stem.conv3x3_gelu_bn_list.{j}.conv3x3_gelu_bn.0",   LAYER),
    ("stem.{j+1}.norm",                           "stem.conv3x3_gelu_bn_list.{j}.conv3x3_gelu_bn.2",   BATCHNORM),
    ("stages.{i}.embed.conv",                     "pool{i+1}.patch_aggregation",                      LAYER),
    ("stages.0.absolute_position",                "absolute_pos_embed",                               TENSOR),
    ("stages.{i}.blocks.{j}.lpu",                 BLOCK + ".LPU.conv_3x3_dw.conv",                    LAYER),
    ("stages.{i}.blocks.{j}.norm1",               BLOCK + ".norm1",                                   LAYER),
    ("stages.{i}.blocks.{j}.attn.q",              ATTENTION + ".q",                                   LAYER),
    ("stages.{i}.blocks.{j}.attn.kv",             ATTENTION + ".kv",                                  PACKED),
    ("stages.{i}.blocks.{j}.attn.reduce.conv",    ATTENTION + ".sr",                                  LAYER),
    ("stages.{i}.blocks.{j}.attn.reduce.norm",    ATTENTION + ".norm",                                LAYER),
    ("stages.{i}.blocks.{j}.attn.position.table", ATTENTION + ".position_embeeding",                  TENSOR),
    ("stages.{i}.blocks.{j}.attn.proj",           ATTENTION + ".proj",                                LAYER),
    ("stages.{i}.blocks.{j}.norm2",               BLOCK + ".norm2",                                   LAYER),
    ("stages.{i}.blocks.{j}.ffn.expand.conv",     FFN + ".conv1x1_gelu_bn.conv3x3_gelu_bn.0",         LAYER),
    ("stages.{i}.blocks.{j}.ffn.expand.norm",     FFN + ".conv1x1_gelu_bn.conv3x3_gelu_bn.2",         BATCHNORM),
    ("stages.{i}.blocks.{j}.ffn.local.conv",      FFN + ".conv3x3_dw.conv",                           LAYER),
    ("stages.{i}.blocks.{j}.ffn.local.norm",      FFN + ".act.1",                                     BATCHNORM),
    ("stages.{i}.blocks.{j}.ffn.project.conv",    FFN + ".conv1x1_pw.0",                              LAYER),
    ("stages.{i}.blocks.{j}.ffn.project.norm",    FFN + ".conv1x1_pw.1",                              BATCHNORM),
    ("head.linear",                               "fc",                                               LAYER),
    ("head.fc",                                   "classifier",                                       LAYER),
)  # fmt: skip


def variant(shapes: Shapes) -> tuple[str, dict[str, Any]]:
    """Its options: position offsets (rpe), a dense table (pe_nd) or none, absolute positions (ape), biases of q, k and v."""
    first, second = (shapes.get(f"stage{i}.block_list.0.LMHSA.position_embeeding") for i in (1, 2))
    position = None
    if first and second:  # the next stage's grid is half as wide: 2F - 1 halves, F * F quarters
        position = "dense" if first[0] == 4 * second[0] else "offsets"
    return "_flyegle", {
        "position": position,
        "absolute_position": "absolute_pos_embed" in shapes,
        "qkv_bias": "stage1.block_list.0.LMHSA.q.bias" in shapes,
    }


FLYEGLE = Source(
    name="flyegle",
    title="FlyEgle/CMT-pytorch",
    family="cmt",
    format="torch",
    table=TABLE,
    layout="state_dict",
    suffixes=("_flyegle",),
    options=("position", "absolute_position", "qkv_bias"),
    variant=variant,
)
