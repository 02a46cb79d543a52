"""What every part of a recipe is: a frozen dataclass whose numbers have ranges."""

import dataclasses
import math
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from hybridvit.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Range:
    """Finite numbers from low to high; with open ends, without them."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low < value if self.open_low else self.low <= value
        below = value < self.high if self.open_high else value <= self.high
        return above and below and math.isfinite(value)

    def __str__(self) -> str:
        if self.low == -math.inf:
            return "must be finite"
        if self.high == math.inf:
            return f"must be more than {self.low:g}" if self.open_low else f"must be at least {self.low:g}"
        return f"must lie in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}"


Number = Annotated[float, Range()]
Positive = Annotated[float, Range(0, open_low=True)]
NonNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
ShareBelowOne = Annotated[float, Range(0, 1, open_high=True)]
ShareAboveZero = Annotated[float, Range(0, 1, open_low=True)]
Count = Annotated[int, Range(1)]
CountFromZero = Annotated[int, Range(0)]
Seed = Annotated[int, Range(-(2**63), 2**63 - 1)]


class Section:
    """Refuses numbers out of the range that their field's type states; of tuples, every number. None is always allowed.

    Raises: ConfigError.
    """

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            for allowed in ranges(hint):
                value = getattr(self, name)
                values = value if isinstance(value, tuple) else () if value is None else (value,)
                require(all(item in allowed for item in values), f"{name} {allowed}, found {value}")


def ranges(hint: Any) -> list[Range]:
    """The ranges within a type, at any depth."""
    own = [extra for extra in hint.__metadata__ if isinstance(extra, Range)] if get_origin(hint) is Annotated else []
    return own + [found for argument in get_args(hint) for found in ranges(argument)]


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
