"""Several maps in one figure: heads side by side; stages, methods, models or pictures side by side."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hybridvit.attribution.explanation import SIDE, Explanation
from hybridvit.errors import ConfigError
from hybridvit.render.figures import panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def head_grid(explanation: Explanation) -> "Figure":
    """The map of every head, all on one colour scale.

    Raises: ConfigError for a map without heads.
    """
    if len(explanation.map_hrc) == 1:
        raise ConfigError(f"{explanation.title}: one head. A grid takes the attention of a block with several.")
    small = explanation.sized(SIDE // 2)
    heads = [replace(small, map_hrc=map_rc[None]) for map_rc in small.map_hrc]
    items = [head.panel(title=f"head {number}", like=heads) for number, head in enumerate(heads)]
    heading = explanation.title.replace(" · mean of the heads", "").replace(" · ", ", ")
    return panels(items, columns=min(4, len(items)), heading=heading, one_scale=True)


def side_by_side(explanations: Sequence[Explanation], *, titles: Sequence[str] = ()) -> "Figure":
    """Several maps, each on its own colour scale, under the given titles or their own."""
    small = [each.sized(SIDE) for each in explanations]
    items = [each.panel() for each in small]
    if titles:
        items = [
            replace(item, title=title, detail=each.title.replace(" · ", ", "))
            for item, title, each in zip(items, titles, small, strict=True)
        ]
    return panels(items, columns=len(items))
