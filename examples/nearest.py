"""The pictures most like one, by features that `hybridvit embed --out FEATURES` wrote.

python examples/nearest.py FEATURES PICTURE [NUMBER]
"""

import sys

import numpy as np
import pyarrow.dataset
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize


def read(folder: str) -> tuple[list[str], np.ndarray]:
    """Paths and features, of length 1, of all pictures that could be read."""
    table = pyarrow.dataset.dataset(folder).to_table(["path", "features"], filter=pyarrow.dataset.field("ok"))
    column = table["features"].combine_chunks()
    return table["path"].to_pylist(), normalize(column.flatten().to_numpy().reshape(len(column), -1))


if __name__ == "__main__":
    folder, picture, count = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 5
    paths, features = read(folder)
    if picture not in paths:
        sys.exit(f"{picture} is not among the {len(paths)} pictures of {folder}, such as {paths[0]}")
    index = NearestNeighbors(n_neighbors=min(count + 1, len(paths)), metric="cosine").fit(features)
    own = paths.index(picture)
    distances, places = index.kneighbors(features[[own]])
    near = [
        (1 - distance, paths[place]) for distance, place in zip(distances[0], places[0], strict=True) if place != own
    ]
    for likeness, path in near[:count]:
        print(f"{likeness:.3f}  {path}")
