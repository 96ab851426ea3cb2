"""SIGTERM while training runs: what preempted machines and `kill` send."""

import os
import signal
import threading
from typing import Any, Self

import tensorflow as tf

from noisy_student.strategy import several_workers


class Terminated(SystemExit):
    """Ends the process as a shell reports a SIGTERM: with status 128 + 15."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Termination:
    """Within its block a SIGTERM is remembered; outside it does what it did before.

    Only Python's main thread can have signals; in another one nothing changes.
    A signal that nobody asked about any more goes to the handler from before.

    Args:
        strategy: Where training computes: its workers end together.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self._signaled = self._answered = self._installed = False
        self._before: Any = None

    def __enter__(self) -> Self:
        self._installed = threading.current_thread() is threading.main_thread()
        if self._installed:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self._installed:
            return
        before = signal.SIG_DFL if self._before is None else self._before
        signal.signal(signal.SIGTERM, before)
        if self._signaled and not self._answered and kind is None:
            os.kill(os.getpid(), signal.SIGTERM)

    def asked(self) -> bool:
        """Whether this process, or any other worker, was told to end.

        Of several workers all must call it after the same step: they compare.
        """
        self._answered = self._signaled
        if not several_workers(self._strategy):
            return self._answered
        own = tf.constant(float(self._answered))
        values = self._strategy.experimental_distribute_values_from_function(lambda _: own)
        told = self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)
        return float(told) > 0

    def _note(self, *_):
        self._signaled = True
