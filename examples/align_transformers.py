"""Hold transformers' CvT against this library's, layer by layer: python examples/align_transformers.py [microsoft/cvt-13]

This is how any model that is not ours is compared: a `Side` says which of its modules answers to which of ours, how to read its
output, and what its parameters are called. Without a name, a small model with random weights is made.
"""

import sys

import torch
from transformers import CvtConfig, CvtForImageClassification

import hybridvit
from hybridvit.compare.align import Point, Side, align, names_of


def points(depths: tuple[int, ...]) -> dict[str, Point]:
    """Our module -> theirs. Their tokens are ours, but for the embedding's output, which is a map (B, C, H, W) there."""
    found: dict[str, Point] = {}
    for i, depth in enumerate(depths):
        stage = f"cvt.encoder.stages.{i}"
        found[f"stages.{i}.embed"] = (f"{stage}.embedding", lambda map_BCHW: map_BCHW.flatten(2).transpose(1, 2))
        for j in range(depth):
            ours, theirs = f"stages.{i}.blocks.{j}", f"{stage}.layers.{j}"
            found |= {
                f"{ours}.norm1": f"{theirs}.layernorm_before",
                f"{ours}.attn": f"{theirs}.attention",
                f"{ours}.norm2": f"{theirs}.layernorm_after",
                f"{ours}.mlp.fc1": f"{theirs}.intermediate.dense",
                f"{ours}.mlp.act": f"{theirs}.intermediate",
                f"{ours}.mlp.fc2": f"{theirs}.output.dense",
                ours: theirs,
            }
    return found | {"norm": ("layernorm", lambda cls_B1C: cls_B1C[:, 0]), "head": "classifier"}


def main(names: list[str]) -> int:
    if names:
        theirs = CvtForImageClassification.from_pretrained(names[0])
    else:
        theirs = CvtForImageClassification(
            CvtConfig(embed_dim=[16, 32, 64], num_heads=[1, 2, 4], depth=[1, 2, 3], num_labels=10)
        )
    size = {"dims": theirs.config.embed_dim, "heads": theirs.config.num_heads, "depths": theirs.config.depth}
    ours = hybridvit.create_model(
        "cvt_13_gelu", num_classes=theirs.config.num_labels, **{key: tuple(value) for key, value in size.items()}
    )
    rename = names_of("transformers", ours)
    ours.load_state_dict(rename(theirs.state_dict()))

    x = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    found = align(
        Side(name="hybridvit", model=ours),
        Side(
            name="transformers",
            model=theirs,
            points=points(ours.config.depths),
            logits=lambda output: output.logits,
            rename=rename,
        ),
        x,
    )
    print("\n".join(found.summary()))
    return 0 if found.aligned else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
