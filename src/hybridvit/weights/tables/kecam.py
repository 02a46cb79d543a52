"""keras_cv_attention_models: cmt/cmt.py. Its ports of the authors' weights (CMT*_torch) and its own CMTTiny.

In a file a tensor is called layer/layer/kernel:0; the table says layer.kernel. The package's PyTorch backend writes the same
files with PyTorch's last words: weight, bias, running_mean, running_var.
"""

from collections.abc import Sequence

from hybridvit.weights.mapping import (
    HWCM,
    HWIO,
    NO_COUNTER,
    POINTWISE,
    TRANSPOSE,
    Kind,
    Leaf,
    Row,
    Source,
)

CONV: Kind = {"weight": Leaf("kernel", HWIO), "bias": Leaf("bias")}
DEPTHWISE: Kind = {"weight": Leaf("depthwise_kernel", HWCM), "bias": Leaf("bias")}
POINT: Kind = {"weight": Leaf("kernel", POINTWISE), "bias": Leaf("bias")}
DENSE: Kind = {"weight": Leaf("kernel", TRANSPOSE), "bias": Leaf("bias")}
LAYERNORM: Kind = {"weight": Leaf("gamma"), "bias": Leaf("beta")}
BATCHNORM: Kind = {
    **LAYERNORM,
    "running_mean": Leaf("moving_mean"),
    "running_var": Leaf("moving_variance"),
    **NO_COUNTER,
}
POSITIONS: Kind = {"": Leaf("positional_embedding")}

STAGE = "stack{i+1}_"
BLOCK = STAGE + "block{j+1}_"
ATTENTION = BLOCK + "light_mhsa_"

COMMON: tuple[Row, ...] = (
    # ours                                        theirs                              kind
    ("stem.{i}.conv",                             "stem_{i+1}_conv",                  CONV),
    ("stem.{i}.norm",                             "stem_{i+1}_bn",                    BATCHNORM),
    ("stages.{i}.embed.conv",                     STAGE + "down_sampleconv",          CONV),
    ("stages.{i}.embed.norm",                     STAGE + "ln",                       LAYERNORM),
    ("stages.{i}.blocks.{j}.lpu",                 BLOCK + "dw_conv",                  DEPTHWISE),
    ("stages.{i}.blocks.{j}.norm1",               BLOCK + "attn_ln",                  LAYERNORM),
    ("stages.{i}.blocks.{j}.attn.q",              ATTENTION + "query_conv",           POINT),
    ("stages.{i}.blocks.{j}.attn.kv",             ATTENTION + "key_value_conv",       POINT),
    ("stages.{i}.blocks.{j}.attn.reduce.conv",    ATTENTION + "kv_sr_dw_conv",        DEPTHWISE),
    ("stages.{i}.blocks.{j}.attn.proj",           ATTENTION + "output",               DENSE),
    ("stages.{i}.blocks.{j}.norm2",               BLOCK + "ffn_ln",                   LAYERNORM),
    ("stages.{i}.blocks.{j}.ffn.expand.conv",     BLOCK + "ffn_1_conv",               CONV),
    ("stages.{i}.blocks.{j}.ffn.expand.norm",     BLOCK + "ffn_1_bn",                 BATCHNORM),
    ("stages.{i}.blocks.{j}.ffn.local.conv",      BLOCK + "ffn_dw_conv",              DEPTHWISE),
    ("stages.{i}.blocks.{j}.ffn.local.norm",      BLOCK + "ffn_2_bn",                 BATCHNORM),
    ("stages.{i}.blocks.{j}.ffn.project.conv",    BLOCK + "ffn_3_conv",               CONV),
    ("stages.{i}.blocks.{j}.ffn.project.norm",    BLOCK + "ffn_3_bn",                 BATCHNORM),
    ("head.conv",                                 "features_conv",                    CONV),
    ("head.norm",                                 "features_bn",                      BATCHNORM),
    ("head.fc",                                   "predictions",                      DENSE),
)  # fmt: skip
PORT: tuple[Row, ...] = (
    *COMMON,
    ("stages.{i}.position.table",                 STAGE + "pos_emb",                  POSITIONS),
    ("stages.{i}.blocks.{j}.attn.reduce.norm",    ATTENTION + "kv_sr_bn",             BATCHNORM),
)  # fmt: skip
OWN: tuple[Row, ...] = (
    *COMMON,
    ("stages.{i}.blocks.{j}.attn.position.table", ATTENTION + "pos_emb",              POSITIONS),
    ("stages.{i}.blocks.{j}.attn.reduce.norm",    ATTENTION + "kv_sr_ln",             LAYERNORM),
)  # fmt: skip

_PYTORCH_WORDS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_KERAS_WORDS = {word: keras for keras, word in _PYTORCH_WORDS.items()}


def canonical(key: str) -> str:
    """layer/.../word to layer.word, with Keras' words."""
    layer, word = key.partition("/")[0], key.rpartition("/")[2].removesuffix(":0")
    if layer.endswith("pos_emb"):
        word = "positional_embedding"
    elif layer.endswith(("_bn", "_ln")):
        word = _KERAS_WORDS.get(word, word)
    elif word in ("weight", "kernel"):
        word = "depthwise_kernel" if layer.endswith("dw_conv") else "kernel"
    return f"{layer}.{word}"


def dialect(keys: Sequence[str]) -> str:
    """How the file spells its position tables: TensorFlow's names end in ":0", and depend on how the layer was built."""
    layer, _, name = next((key for key in keys if key.partition("/")[0].endswith("pos_emb")), "").partition("/")
    return name.replace(layer, "{layer}") if name else ""


def spell(key: str, dialect: str) -> str:
    layer, _, word = key.partition(".")
    dialect = dialect or "positional_embedding:0"
    if layer.endswith("pos_emb"):
        return f"{layer}/" + dialect.replace("{layer}", layer)
    if dialect.endswith(":0"):
        return f"{layer}/{layer}/{word}:0"
    return f"{layer}/{layer}/" + ("weight" if word.endswith("kernel") else _PYTORCH_WORDS.get(word, word))


KECAM = Source(
    name="kecam",
    title="kecam CMT*_torch (the authors' weights in Keras)",
    family="cmt",
    format="keras",
    table=PORT,
    suffixes=("_kecam_port", ""),
    variant=lambda shapes: ("_kecam_port", {}),
    canonical=canonical,
    dialect=dialect,
    spell=spell,
)

KECAM_OWN = Source(
    name="kecam-own",
    title="kecam CMTTiny (its own)",
    family="cmt",
    format="keras",
    table=OWN,
    suffixes=("_kecam",),
    variant=lambda shapes: ("_kecam", {}),
    canonical=canonical,
    dialect=dialect,
    spell=spell,
)
