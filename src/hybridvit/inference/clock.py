"""How far a job is, and when it will be done."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Done:
    """A piece that was computed, or why its pictures could not be listed."""

    number: int
    pictures: int = 0
    broken: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Progress:
    """How far a job is; it prints as a line."""

    pieces: int
    """Done, by this process or before it began."""
    of: int
    pictures: int
    """Since this process began."""
    rate: float
    """Pictures per second."""
    seconds_left: float | None

    def __str__(self) -> str:
        left = "" if self.seconds_left is None else f", {_duration(self.seconds_left)} left"
        return f"{self.pieces} of {self.of} pieces, {self.pictures} pictures, {self.rate:.1f} pictures/s{left}"


@dataclass
class Clock:
    """Makes Progress of what a launcher tells."""

    of: int
    before: int
    tell: Callable[[Progress], None]
    now: Callable[[], float] = time.monotonic
    began: float = field(default_factory=time.monotonic)
    pieces: int = 0
    pictures: int = 0

    def watch(self, results: Iterable[Done]) -> Iterator[Done]:
        for done in results:
            self.pieces += done.error is None
            self.pictures += done.pictures
            self._tell(0, 1)
            yield done

    def batch(self, done: int, total: int) -> None:
        if done < total:
            self._tell(done, total)

    def _tell(self, done: int, total: int) -> None:
        """done of total pictures of the piece that is being computed."""
        seconds = self.now() - self.began
        computed = self.pieces + done / total
        left = seconds / computed * (self.of - self.before - computed) if computed else None
        rate = (self.pictures + done) / seconds if seconds else 0.0
        self.tell(Progress(self.before + self.pieces, self.of, self.pictures + done, rate, left))


def _duration(seconds: float) -> str:
    minutes, hours = round(seconds / 60), seconds / 3600
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes} min" if minutes < 120 else f"{hours:.1f} h"
