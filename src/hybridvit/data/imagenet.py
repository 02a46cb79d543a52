"""ImageNet's 1,000 classes: their synsets in the order that every published model uses, and whether a data set keeps it."""

import re
from collections.abc import Sequence
from functools import cache

NUM_CLASSES = 1000


@cache
def synsets() -> tuple[str, ...]:
    """n01440764 (tench) to n15075141 (toilet tissue), in the order of the logits."""
    from timm.data import ImageNetInfo  # imports torch

    return tuple(ImageNetInfo().label_names())


@cache
def descriptions() -> tuple[str, ...]:
    """ "tench, Tinca tinca" and so on, in the order of the logits."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return tuple(info.index_to_description(k) for k in range(NUM_CLASSES))


def order_problem(class_names: Sequence[str]) -> str | None:
    """Why pictures of these 1,000 classes would not meet the logits of an ImageNet model; None where they would.

    Synsets, words and numbers are recognised. Other names say nothing about ImageNet, and None is returned.
    """
    assert len(class_names) == NUM_CLASSES
    if set(class_names) == {str(k) for k in range(NUM_CLASSES)}:
        expected: Sequence[str] = [str(k) for k in range(NUM_CLASSES)]
    elif sum(bool(re.fullmatch(r"n\d{8}", name)) for name in class_names) > NUM_CLASSES // 2:
        expected = synsets()
    else:
        words = [_first_words(name) for name in class_names]
        expected = [_first_words(text) for text in descriptions()]
        if len(set(words) & set(expected)) < NUM_CLASSES // 2:
            return None
        class_names = words
    wrong = [k for k in range(NUM_CLASSES) if class_names[k] != expected[k]]
    if not wrong:
        return None
    k = wrong[0]
    return (
        f"{len(wrong)} of the 1,000 classes are not where ImageNet's models have them: class {k} is {class_names[k]}, "
        f"ImageNet's is {expected[k]}. A model with ImageNet's class names is matched by name; without names, its "
        "accuracy would be near 0."
    )


def _first_words(text: str) -> str:
    return text.partition(",")[0].strip().lower().replace("_", " ").replace("-", " ")
