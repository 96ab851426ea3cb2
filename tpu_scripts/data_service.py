"""One process of a tf.data service: decodes and augments images for `train`.

    python -m tpu_scripts.data_service --role=dispatcher --port=5050 --host=machine-0
    python -m tpu_scripts.data_service --role=worker --host=machine-1 \\
        --dispatcher=grpc://machine-0:5050

Serves until SIGTERM or SIGINT. No login, no encryption: for networks you trust.
"""

import os
import signal
import socket
import threading
import time

import tensorflow as tf
from absl import flags

from data import service_workers
from data.errors import InputError
from tpu_scripts import setting_flags

_ROLE = flags.DEFINE_enum(
    "role", None, ["dispatcher", "worker"], "One dispatcher; many workers.", required=True
)
_PORT = flags.DEFINE_integer(
    "port", 0, "Port to listen at; 0: any free one.", lower_bound=0, upper_bound=65535
)
_DISPATCHER = flags.DEFINE_string(
    "dispatcher", "", "Of a worker: its dispatcher, grpc://HOST:PORT."
)
_HOST = flags.DEFINE_string(
    "host", "localhost", "Name by which other machines reach this one."
)
_STATE_DIR = flags.DEFINE_string(
    "state_dir", "", "Of a dispatcher: what it goes on from when started again; empty: no."
)


def main() -> None:
    if (_ROLE.value == "worker") != bool(_DISPATCHER.value):
        raise InputError(
            "`dispatcher`: expected for --role=worker and for no other; received "
            f"{_DISPATCHER.value!r} with --role={_ROLE.value}."
        )
    ended = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: ended.append(number))
    _check_port(_PORT.value)
    server = _worker() if _ROLE.value == "worker" else _dispatcher()
    port = server._address.rpartition(":")[2]  # Nothing public tells it.
    print(f"{_ROLE.value} listens at grpc://{_HOST.value}:{port}", flush=True)
    while not ended:
        time.sleep(0.2)
    (stopping := threading.Thread(target=server.stop, daemon=True)).start()
    stopping.join(10)  # A worker with unfinished tasks can take a minute.
    print(f"{_ROLE.value} ended by {signal.Signals(ended[0]).name}.", flush=True)
    os._exit(0)  # Any other way out would wait for the server to stop.


def _check_port(port):
    try:  # gRPC itself would share the port with another server.
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
    except OSError as error:
        raise InputError(
            f"`port`: expected a free one, or 0; received {port}: {error.strerror}."
        ) from error


def _dispatcher():
    config = tf.data.experimental.service.DispatcherConfig(
        port=_PORT.value,
        protocol="grpc",
        work_dir=_STATE_DIR.value or None,
        fault_tolerant_mode=bool(_STATE_DIR.value),
    )
    return tf.data.experimental.service.DispatchServer(config)


def _worker():
    host, port = service_workers.check_address("dispatcher", _DISPATCHER.value)
    if _HOST.value == "localhost" and host not in ("localhost", "127.0.0.1", "::1"):
        raise InputError(
            "`host`: expected the name by which trainers reach this worker, as its "
            f"dispatcher is on {host}; received 'localhost'."
        )
    service_workers.check_dispatcher("dispatcher", _DISPATCHER.value)
    config = tf.data.experimental.service.WorkerConfig(
        dispatcher_address=f"{host}:{port}",
        worker_address=f"{_HOST.value}:%port%",
        port=_PORT.value,
        protocol="grpc",
    )
    return tf.data.experimental.service.WorkerServer(config)


if __name__ == "__main__":
    setting_flags.run(main)
