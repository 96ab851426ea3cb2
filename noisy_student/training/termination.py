"""SIGTERM and SIGINT while training runs: preempted machines, `kill`, and Ctrl-C."""

import os
import signal
import threading
from typing import Any, Self

import tensorflow as tf

from noisy_student.strategy import several_workers

_CTRL_C = b"\nCtrl-C: stops when these steps are done and saved; once more: at once.\n"


class Terminated(SystemExit):
    """Ends the process with the status by which a shell reports a signal.

    Args:
        received: The signal, such as SIGTERM: status 128 + 15.
    """

    def __init__(self, received: signal.Signals):
        super().__init__(128 + received)


class Termination:
    """Within its block a signal is remembered; outside it does what it did before.

    A second Ctrl-C does not wait: it is Python's KeyboardInterrupt. Only Python's main
    thread can have signals; in another one nothing changes. A signal that nobody asked
    about any more goes to the handler from before.

    Args:
        strategy: Where training computes: its workers end together.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self._answered = False
        self._before: dict[signal.Signals, Any] = {}
        self.received: signal.Signals | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for each in (signal.SIGTERM, signal.SIGINT):
                self._before[each] = signal.signal(each, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for each, before in self._before.items():
            signal.signal(each, signal.SIG_DFL if before is None else before)
        if self.received and not self._answered and kind is None:
            os.kill(os.getpid(), self.received)

    def asked(self) -> bool:
        """Whether this process, or any other worker, was told to end.

        Of several workers all must call it after the same step: they compare.
        """
        self._answered = self.received is not None
        if not several_workers(self._strategy):
            return self._answered
        own = tf.constant(float(self._answered))
        values = self._strategy.experimental_distribute_values_from_function(lambda _: own)
        told = self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)
        return float(told) > 0

    def _note(self, number: int, _: object) -> None:
        if number == signal.SIGINT:
            if self.received == signal.SIGINT:
                raise KeyboardInterrupt
            # Not print: the signal may have come in the middle of one, which raises.
            os.write(2, _CTRL_C)
        self.received = signal.Signals(number)
