"""One set of weights, two implementations: how far QuickGELU and the exact GELU part. python examples/two_arithmetics.py [FILE]

The authors trained CvT with QuickGELU; transformers computes the exact GELU on the same weights. FILE is any CvT checkpoint;
without one, random weights serve.
"""

import sys

import torch

import hybridvit
from hybridvit.models import catalog


def main() -> None:
    torch.manual_seed(0)
    model = hybridvit.load(sys.argv[1]) if len(sys.argv) > 1 else hybridvit.create_model("cvt_13").eval()
    name = model.architecture.removesuffix("_gelu")
    authors, exact = (
        catalog.create(each, num_classes=model.num_classes, in_chans=model.in_chans).eval()
        for each in (name, f"{name}_gelu")
    )
    for other in (authors, exact):
        other.load_state_dict(model.state_dict())

    pictures = torch.randn(2, model.in_chans, 224, 224)
    with torch.inference_mode():
        one, two = authors(pictures), exact(pictures)
        stages = zip(
            authors.forward_intermediates(pictures, intermediates_only=True),
            exact.forward_intermediates(pictures, intermediates_only=True),
            strict=True,
        )
        for number, (ours, theirs) in enumerate(stages, start=1):
            print(f"stage {number}: relative difference {(ours - theirs).norm() / ours.norm():.2e}")
    print(f"logits:  relative difference {(one - two).norm() / one.norm():.2e}")
    print(f"same answer for {(one.argmax(1) == two.argmax(1)).sum()} of {len(pictures)} pictures")


if __name__ == "__main__":
    main()
