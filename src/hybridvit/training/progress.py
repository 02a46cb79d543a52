"""What a person sees of a run, and what stays of it: a moving line on a terminal, plain lines elsewhere, metrics.jsonl.

metrics.jsonl holds only what the recipe decides, so an interrupted and resumed run leaves the same bytes as one that
went through. Times, which differ from run to run, go to timings.jsonl.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from hybridvit.output import printable, to_json
from hybridvit.training.sinks import Sink


class Reporter:
    """Tell one run's story to the console and to its folder; each may be None, and then hears nothing."""

    def __init__(self, folder: Path | None, console: Console | None) -> None:
        self.metrics_path = folder / "metrics.jsonl" if folder else None
        self.timings_path = folder / "timings.jsonl" if folder else None
        self.console = console
        self.unwritten = ""
        """Lines of metrics that a full disk did not take; they go before the next one."""
        self.metrics_bytes = 0
        self.sinks: list[Sink] = []
        self.bar: Progress | None = None
        self.seconds_mark = time.monotonic()
        self.images_since = 0

    def start(self, *, step: int, total: int, metrics_bytes: int) -> None:
        """Begin at `step`, dropping lines of metrics that were written after the state which the run resumes from."""
        if self.metrics_path:
            self.metrics_path.touch()
            os.truncate(self.metrics_path, metrics_bytes)
            self.metrics_bytes = metrics_bytes
        if self.console and self.console.is_terminal:
            columns = (BarColumn(), TextColumn("{task.completed}/{task.total} steps"), TimeRemainingColumn())
            self.bar = Progress(*columns, TextColumn("{task.description}"), console=self.console, transient=True)
            self.bar.add_task("", total=total, completed=step)
            self.bar.start()
        self.seconds_mark = time.monotonic()

    def stepped(self, step: int, images: int) -> None:
        self.images_since += images
        if self.bar:
            self.bar.update(self.bar.task_ids[0], completed=step)

    def record(self, values: dict[str, Any]) -> int:
        """Append a line to metrics.jsonl and flush it to the disk. Returns the length in bytes that is safely there."""
        self._send(values, step=values["step"])
        if self.bar and values.get("loss"):
            self.bar.update(self.bar.task_ids[0], description=f"loss {values['loss']:.4f}")
        if not self.metrics_path:
            return 0
        self.unwritten += to_json(values, indent=None) + "\n"
        try:
            with self.metrics_path.open("r+b") as file:
                file.seek(self.metrics_bytes)
                file.write(self.unwritten.encode())
                file.flush()
                os.fsync(file.fileno())
                self.metrics_bytes = file.tell()
            self.unwritten = ""
        except OSError as error:
            self.say(f"Warning: {self.metrics_path} cannot be written ({error}); its lines are kept for the next time.")
        return self.metrics_bytes

    def timing(self, step: int) -> float:
        """Note the pictures per second since the last call."""
        seconds = max(time.monotonic() - self.seconds_mark, 1e-9)
        rate = self.images_since / seconds
        if self.images_since and self.timings_path:
            line = {"step": step, "images_per_second": round(rate, 1), "unix_time": round(time.time(), 1)}
            with suppress(OSError), self.timings_path.open("a") as file:  # not worth a word on a full disk
                file.write(to_json(line, indent=None) + "\n")
            self._send({"images_per_second": rate}, step=step)
        self.seconds_mark, self.images_since = time.monotonic(), 0
        return rate

    def say(self, text: str) -> None:
        if self.console:
            self.console.print(printable(text), highlight=False, markup=False, soft_wrap=True)

    def _send(self, values: dict[str, Any], *, step: int) -> None:
        """Pass numbers on to the sinks. One that fails is dropped: it must not end the training."""
        numbers = {key: value for key, value in values.items() if isinstance(value, int | float) and key != "step"}
        for sink in list(self.sinks):
            self._call(sink, lambda sink: sink.log(numbers, step=step))

    def _call(self, sink: Sink, what: Callable[[Sink], None]) -> None:
        try:
            what(sink)
        except Exception as error:  # other people's code, full disks, lost networks
            self.sinks.remove(sink)
            self.say(f"Warning: {type(sink).__name__} hears no more of this run ({error}).")

    def close(self) -> None:
        for sink in list(self.sinks):
            self._call(sink, lambda sink: sink.close())
        self.sinks = []
        if self.bar:
            self.bar.stop()
            self.bar = None
