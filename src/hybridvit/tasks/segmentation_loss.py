"""Losses of semantic segmentation. Pixels of no class are in none of them.

Tensors: B batch, K classes, H rows, W columns, P labelled pixels of the batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridvit.config.segmentation import SegmentationLossSection


def segmentation_loss(
    logits_BKHW: Tensor, labels_BHW: Tensor, section: SegmentationLossSection, *, weights_K: Tensor | None, ignore: int
) -> Tensor:
    """The sum that the recipe asks for; 0, with a gradient of 0, where no pixel has a class."""
    kept_P = labels_BHW != ignore
    logits_PK, labels_P = logits_BKHW.movedim(1, -1)[kept_P], labels_BHW[kept_P]
    if not len(labels_P):
        return logits_BKHW.sum() * 0
    loss = logits_PK.new_zeros(())
    if section.cross_entropy:
        loss = loss + section.cross_entropy * F.cross_entropy(logits_PK, labels_P, weights_K)
    if section.dice:
        loss = loss + section.dice * dice(logits_PK.softmax(dim=1), labels_P)
    if section.lovasz:
        loss = loss + section.lovasz * lovasz(logits_PK.softmax(dim=1), labels_P)
    return loss


def dice(probabilities_PK: Tensor, labels_P: Tensor) -> Tensor:
    """The mean of 1 - Dice over the classes that occur. Source: Milletari et al., arXiv 1606.04797, with squares below."""
    truth_PK = F.one_hot(labels_P, probabilities_PK.shape[1]).to(probabilities_PK)
    both_K = (probabilities_PK * truth_PK).sum(dim=0)
    either_K = (probabilities_PK.square() + truth_PK).sum(dim=0)
    return (1 - 2 * both_K / either_K)[truth_PK.any(dim=0)].mean()


def lovasz(probabilities_PK: Tensor, labels_P: Tensor) -> Tensor:
    """The mean of the Lovasz extension of 1 - IoU over the classes that occur. Source: Berman et al., arXiv 1705.08790."""
    losses = []
    for label in torch.unique(labels_P).tolist():
        truth_P = (labels_P == label).to(probabilities_PK)
        errors_P, order_P = (truth_P - probabilities_PK[:, label]).abs().sort(descending=True)
        truth_P = truth_P[order_P]
        union_P = truth_P.sum() + (1 - truth_P).cumsum(dim=0)
        jaccard_P = 1 - (truth_P.sum() - truth_P.cumsum(dim=0)) / union_P
        steps_P = torch.cat((jaccard_P[:1], jaccard_P.diff()))
        losses.append(errors_P @ steps_P)
    return torch.stack(losses).mean()
