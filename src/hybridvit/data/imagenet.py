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

    Names that are not ImageNet's say nothing, and None is returned.
    """
    found, expected = _compared(class_names)
    wrong = [k for k in range(len(expected)) if found[k] != expected[k]]
    if not wrong:
        return None
    k = wrong[0]
    return (
        f"{len(wrong)} of the 1,000 classes are not where ImageNet's models have them: class {k} is {found[k]}, "
        f"ImageNet's is {expected[k]}. A model with ImageNet's class names is matched by name; without names, its "
        "accuracy would be near 0."
    )


def in_imagenets_order(class_names: Sequence[str]) -> bool:
    """These are ImageNet's 1,000 classes, in the usual order."""
    found, expected = _compared(class_names)
    return bool(expected) and list(found) == list(expected)


def _compared(class_names: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The names and ImageNet's, spelt alike: as synsets, words or numbers. ImageNet's are empty for other names."""
    if len(class_names) != NUM_CLASSES:
        return class_names, ()
    numbers = [str(k) for k in range(NUM_CLASSES)]
    if set(class_names) == set(numbers):
        return class_names, numbers
    if sum(bool(re.fullmatch(r"n\d{8}", name)) for name in class_names) > NUM_CLASSES // 2:
        return class_names, synsets()
    words = [_first_words(name) for name in class_names]
    expected = [_first_words(text) for text in descriptions()]
    return (words, expected) if len(set(words) & set(expected)) >= NUM_CLASSES // 2 else (words, ())


def _first_words(text: str) -> str:
    return text.partition(",")[0].strip().lower().replace("_", " ").replace("-", " ")
