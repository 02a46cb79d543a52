"""Real pictures that need no download: scikit-learn's 1,797 handwritten digits, written as a folder of PNGs.

They are the test part of the UCI set "Optical Recognition of Handwritten Digits": forms that 13 people filled in, scanned
to 8 x 8 values from 0 to 16. scikit-learn's own example learns from the first half and is evaluated on the second, in the
order of the forms, so largely on other hands. We keep that split; its support vector machine reaches 96.9 %.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hybridvit.errors import DataError

NUM_TRAIN = 898
SIDE = 32
"""Pixels of the written pictures: 8 x 8 enlarged four times, bicubic, so that small turns and shifts have room to be exact."""


def load() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All digits, white on black, the first NUM_TRAIN to learn from, and what they are. Shapes: (1797, 8, 8), (1797,).

    Raises: DataError when scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits  # an extra: only the demo needs it
    except ImportError as error:
        raise DataError("The digits come with scikit-learn: pip install 'hybridvit[demo]'") from error
    digits = load_digits()
    return (digits.images * (255 / 16)).round().astype(np.uint8), digits.target.astype(np.int64)


def write_digits(root: str | Path) -> Path:
    """Write ROOT/train/DIGIT/NUMBER.png (898) and ROOT/test/DIGIT/NUMBER.png (899), white on black, and return ROOT.

    NUMBER is scikit-learn's index.

    Raises: DataError when scikit-learn is not installed or the folder cannot be written.
    """
    root = Path(root)
    strokes_NHW, labels_N = load()
    try:
        for number, (values, label) in enumerate(zip(strokes_NHW, labels_N, strict=True)):
            path = root / ("train" if number < NUM_TRAIN else "test") / str(label) / f"{number:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
    except OSError as error:
        raise DataError(f"{root} cannot be written: {error}") from error
    return root
