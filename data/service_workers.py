"""The processes of a tf.data service, seen from outside: are they there, are they lost.

tf.data itself waits without end for a dispatcher, and goes on without a word
when a worker dies.
"""

import concurrent.futures
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Collection
from typing import Self

import grpc
import tensorflow as tf

from data.errors import InputError

TIMEOUT = 30.0  # Seconds that dispatcher and first worker have to answer.
INTERVAL = 2.0  # Seconds between two looks.
_CONNECT_TIMEOUT = 2.0
_GET_WORKERS = "/tensorflow.data.DispatcherService/GetWorkers"


def check_address(name: str, address: str) -> tuple[str, int]:
    """Host and port of a dispatcher's address.

    Raises:
        InputError: It is not `grpc://HOST:PORT`.
    """
    try:
        parts = urllib.parse.urlsplit(address)
        port = parts.port
    except ValueError:  # A port that is no number, brackets that do not close.
        parts, port = urllib.parse.urlsplit(""), None
    rest = parts.path or parts.query or parts.fragment or parts.username
    if parts.scheme != "grpc" or not parts.hostname or not port or rest:
        raise InputError(
            f"`{name}`: expected the address of a dispatcher, grpc://HOST:PORT; received "
            f"{address!r}. tpu_scripts.data_service prints it when it starts."
        )
    return parts.hostname, port


def check_dispatcher(name: str, address: str, timeout: float = TIMEOUT) -> list[str]:
    """The workers, HOST:PORT, that a dispatcher knows, dead ones among them.

    Raises:
        InputError: No dispatcher answers within `timeout` seconds.
    """
    check_address(name, address)
    try:
        return _workers(address, timeout)
    except grpc.RpcError as error:
        came = f"no answer within {timeout:g} s"
        if error.code() == grpc.StatusCode.UNIMPLEMENTED:
            came = "an answer of some other service"
        raise InputError(
            f"`{name}`: expected a dispatcher of a tf.data service at {address}; received "
            f"{came}. Start one with tpu_scripts.data_service --role=dispatcher, and see "
            "that no firewall is between."
        ) from error


def wait_for_workers(name: str, address: str, timeout: float = TIMEOUT) -> list[str]:
    """The workers that can be reached, once there is one.

    Raises:
        InputError: No dispatcher or no worker within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    known = check_dispatcher(name, address, timeout)
    while not (found := _reachable(known)):
        if time.monotonic() > deadline:
            came = f"{', '.join(known)}, not to be reached from here" if known else "none"
            raise InputError(
                f"`{name}`: expected a worker at the dispatcher {address} within "
                f"{timeout:g} s; received {came}. Start one with tpu_scripts.data_service "
                "--role=worker, with --host=NAME where it runs on another machine."
            )
        time.sleep(0.2)
        known = check_dispatcher(name, address, timeout)
    return found


class Watch:
    """Counts workers while training runs, and says when one is lost or comes back.

    A context manager with a thread of its own: training cannot look while it
    waits for a batch.

    Args:
        address: The dispatcher.
        interval: Seconds between two looks.
    """

    def __init__(self, address: str, interval: float = INTERVAL):
        self._address, self._interval = address, interval
        self._known: set[str] = set()
        self._alive: set[str] = set()
        self._lost = 0
        self._dispatcher_answers = True
        self._stream = sys.stdout  # Later redirected while orbit runs.
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._alive = set(_reachable(self._ask_dispatcher()))
        self._say(f"{len(self._alive)} workers at {self._address}.")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def take(self, look: bool = False) -> dict[str, int]:
        """`workers` that can be reached, and how many were `lost` since the last call."""
        if look:
            self.look()
        with self._lock:
            counts = {"workers": len(self._alive), "lost": self._lost}
            self._lost = 0
        return counts

    def look(self) -> None:
        """Asks dispatcher and workers now; takes seconds where hosts are down."""
        with self._lock:
            alive = set(_reachable(self._ask_dispatcher()))
            gone, new = self._alive - alive, alive - self._alive
            self._alive = alive
            self._lost += len(gone)
        for worker in sorted(gone):
            rest = "training goes on" if alive else "training waits for a worker"
            self._say(f"worker {worker} was lost, {len(alive)} left: {rest}.")
        for worker in sorted(new):
            self._say(f"worker {worker} is there, {len(alive)} in all.")

    def _ask_dispatcher(self) -> set[str]:
        try:
            self._known |= set(_workers(self._address, _CONNECT_TIMEOUT))
            answers = True
        except grpc.RpcError:
            answers = False
        if answers != self._dispatcher_answers:
            self._say(f"the dispatcher {'answers again' if answers else 'was lost'}.")
        self._dispatcher_answers = answers
        return self._known

    def _run(self):
        while not self._ended.wait(self._interval):
            self.look()

    def _say(self, text):
        print(f"Data service: {text}", file=self._stream, flush=True)


def _workers(address: str, timeout: float) -> list[str]:
    target = urllib.parse.urlsplit(address).netloc
    with grpc.insecure_channel(target) as channel:
        ask = channel.unary_unary(_GET_WORKERS)
        answer = ask(b"", timeout=timeout, wait_for_ready=True)
    # TensorFlow has no Python class for this message; BytesList has its layout,
    # a repeated field 1, and so has each worker in it.
    workers = tf.train.BytesList.FromString(answer).value
    return [tf.train.BytesList.FromString(w).value[0].decode() for w in workers]


def _reachable(workers: Collection[str]) -> list[str]:
    if not workers:
        return []
    with concurrent.futures.ThreadPoolExecutor(min(32, len(workers))) as pool:
        found = pool.map(_can_connect, workers)
        return [w for w, yes in zip(workers, found, strict=True) if yes]


def _can_connect(worker: str) -> bool:
    host, _, port = worker.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT):
            return True
    except OSError:
        return False
