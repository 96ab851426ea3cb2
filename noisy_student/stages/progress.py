"""One line of progress, the same for every long stage."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator

PLAIN_INTERVAL = 5.0  # Seconds between lines where there is no terminal.
LIVE_INTERVAL = 0.2


class Progress:
    """Prints what is done, how far, how fast, and how long it still takes.

    On a terminal the line is redrawn; elsewhere a line is printed now and then. With
    the logger `noisy_student` above WARNING nothing is printed.

    Args:
        name: What is being done, such as `student 1`.
        total: How many units in all.
        unit: What is counted, such as `steps`.
        start: Units done before, by an earlier run.
        items_per_unit: Images in a unit, for the rate.
    """

    def __init__(
        self,
        name: str,
        total: int,
        unit: str = "images",
        start: int = 0,
        items_per_unit: float = 1,
    ):
        self._name, self._total, self._unit = name, total, unit
        self._start = self._done = start
        self._items_per_unit = items_per_unit
        self._stream = sys.stdout
        self._live = self._stream.isatty()
        self._quiet = not logging.getLogger("noisy_student").isEnabledFor(logging.WARNING)
        self._began = time.monotonic()
        self._printed = self._began
        self._first: tuple[float, int] | None = (
            None  # When and at how many units `update` came first.
        )
        self._width = 0
        if start:
            self._print(f"{name}: continues at {start:,}/{total:,} {unit}", end="\n")

    def update(self, done: int, **metrics: float) -> None:
        """Shows that `done` units are done, with named numbers beside it."""
        self._done = done
        now = time.monotonic()
        if self._first is None:
            self._first = now, done
        interval = LIVE_INTERVAL if self._live else PLAIN_INTERVAL
        if now - self._printed >= interval:
            self._printed = now
            self._print(self._line(now, metrics), end="" if self._live else "\n")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Within it, time does not count for the rate and for what is left."""
        paused = time.monotonic()
        yield
        if self._first is not None:
            at, done = self._first
            self._first = at + time.monotonic() - paused, done

    def finish(self, note: str = "") -> dict:
        """Prints the last line; returns `seconds` and `images_per_second`."""
        seconds = time.monotonic() - self._began
        rate = (self._done - self._start) * self._items_per_unit / max(seconds, 1e-9)
        line = f"{self._name}: {self._done:,} {self._unit} in {_clock(seconds)}"
        line += f", {rate:,.0f} images/s"
        self._print(line + (f", {note}" if note else ""), end="\n")
        return {"seconds": round(seconds, 2), "images_per_second": round(rate, 1)}

    def _line(self, now, metrics):
        since, start = self._began, self._start
        if self._first and self._done > self._first[1]:
            since, start = self._first  # Before it, functions were traced and compiled.
        speed = (self._done - start) / max(now - since, 1e-9)
        left = _clock((self._total - self._done) / speed) if speed > 0 else "?"
        parts = [
            f"{self._name}: {self._done:,}/{self._total:,} {self._unit}",
            f"{speed * self._items_per_unit:,.0f} images/s",
            *(f"{name} {value:.3f}" for name, value in metrics.items()),
            f"{left} left",
        ]
        return " | ".join(parts)

    def _print(self, line, end):
        if self._quiet:
            return
        start = "\r" if self._live else ""
        padding = " " * max(0, self._width - len(line)) if self._live else ""
        self._width = 0 if end else len(line)
        print(f"{start}{line}{padding}", end=end, file=self._stream, flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
