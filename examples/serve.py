"""Answers HTTP requests with an exported model: an image in, its class out.

    pip install -r examples/requirements-serve.txt
    python examples/serve.py --model=runs/photos/export/saved_model
    curl --data-binary @cat.jpg 'http://127.0.0.1:8000/predict?top=3'

POST /predict: the body is a JPEG or PNG file as it is; `?top=N` (default 5) limits the
classes in the answer:

    {"class_name": "cat", "confidence": 0.93,
     "top": [{"class_name": "cat", "probability": 0.93}, …]}

GET /health: `{"status": "ok", "model": …, "class_names": […]}`, once the model is loaded.

What cannot be answered gets `{"error": "…: expected …; received …. Remedy."}` with
    400  an empty body, an image that does not decode, a `top` that is no positive integer
    408  a body that takes longer than 30 s
    413  a body of more than --max_megabytes, an image of more than --max_megapixels
    415  a body that is no JPEG or PNG
    503  more than --max_requests requests at once

Images that arrive while the model is busy wait, and then go through it together. Of an
image file only the header is read before its size is checked. There is neither TLS nor
login: what stands in public belongs behind a proxy that has both.

This file needs nothing else of the project: copy it and change it.
"""

import argparse
import asyncio
import contextlib
import io
import os
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# Before TensorFlow is imported: no start-up messages, and oneDNN also on CPUs where
# TensorFlow leaves it out by itself, as in tpu_scripts.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
import tensorflow as tf
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

BODY_SECONDS = 30
STOP_SECONDS = 30  # For requests that are being answered when SIGTERM comes.


class Refused(Exception):
    """A request that cannot be answered: the HTTP status and the message why."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class Model:
    """A SavedModel that `tpu_scripts.export` wrote.

    Args:
        directory: Of the SavedModel.

    Attributes:
        class_names: By column of the probabilities.

    Raises:
        ValueError: The directory holds none, or one with other signatures.
    """

    def __init__(self, directory: str):
        if not tf.saved_model.contains_saved_model(directory):
            raise ValueError(
                f"`model`: expected the directory of a SavedModel; received {directory}, "
                "which is none. tpu_scripts.export writes one, as saved_model/."
            )
        self._loaded = tf.saved_model.load(directory)  # Signatures do not keep it alive.
        signatures = self._loaded.signatures
        if missing := {"serving_default", "class_names"} - set(signatures):
            raise ValueError(
                f"`model`: expected a SavedModel of tpu_scripts.export; {directory} has "
                f"the signatures {sorted(signatures)} and lacks {sorted(missing)}. "
                "Export it with that script, or change examples/serve.py."
            )
        self._classify = signatures["serving_default"]
        names = signatures["class_names"]()["class_names"].numpy()
        self.class_names = [name.decode() for name in names]
        buffer = io.BytesIO()  # The first call is slow: it comes before any request.
        Image.new("RGB", (64, 64)).save(buffer, "JPEG")
        self.probabilities([buffer.getvalue()])

    def probabilities(self, encoded: list[bytes]) -> list[np.ndarray | Refused]:
        """float32 `[C]` for each file, or why it has none; the other files have theirs."""
        try:
            return list(self._run(encoded))
        except tf.errors.InvalidArgumentError as error:
            if len(encoded) > 1:  # One of them does not decode.
                return [self.probabilities([each])[0] for each in encoded]
            reason = error.message.split("}} ")[-1].split("\n")[0]
            return [_undecodable(encoded[0], reason)]

    def _run(self, encoded: list[bytes]) -> np.ndarray:
        # With oneDNN EfficientNet-B0 takes 15 times as long for one image as for two.
        rows = encoded * 2 if len(encoded) == 1 else encoded
        outputs = self._classify(image_bytes=tf.constant(rows))
        return outputs["probabilities"].numpy()[: len(encoded)]


class Batcher:
    """Calls a function of many inputs with those of several tasks at once.

    It waits for nobody: a call takes what came in during the one before.

    Args:
        function: Outputs in the order of the inputs; called in one thread. An output
            that is an exception is raised where its input came from.
        batch_size: Most inputs a call.
    """

    def __init__(self, function: Callable[[list], list], batch_size: int):
        self._function, self._batch_size = function, batch_size
        self._waiting: asyncio.Queue = asyncio.Queue()

    async def __call__(self, value: Any) -> Any:
        """The function's output for one input."""
        output = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((value, output))
        return await output

    async def run(self) -> None:
        """Makes the calls, until it is cancelled."""
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._batch_size and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            values, futures = zip(*batch, strict=True)
            try:
                outputs = await asyncio.to_thread(self._function, list(values))
            except Exception as error:  # The next batch may do better.
                outputs = [error] * len(futures)
            for future, output in zip(futures, outputs, strict=True):
                if future.done():  # Its request was cancelled.
                    continue
                if isinstance(output, Exception):
                    future.set_exception(output)
                else:
                    future.set_result(output)


class Service:
    """The answers to the requests.

    Args:
        model: What classifies.
        options: `arguments()`.
    """

    def __init__(self, model: Model, options: argparse.Namespace):
        self._model, self._options = model, options
        self._classify = Batcher(model.probabilities, options.batch_size)
        self._free = asyncio.Semaphore(options.max_requests)
        # Two: laying a large image over white takes several times its pixels.
        self._threads = ThreadPoolExecutor(2)

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/predict", self.predict, methods=["POST"]),
            Route("/health", self.health),
            Route("/", self.health),
        ]
        handlers: dict[Any, Any] = {Refused: _refusal, HTTPException: _no_such_route}
        return Starlette(
            routes=routes, exception_handlers=handlers, lifespan=self._lifespan
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:  # noqa: ARG002
        batches = asyncio.create_task(self._classify.run())
        yield
        batches.cancel()

    async def health(self, request: Request) -> Response:  # noqa: ARG002
        """GET /health."""
        names = self._model.class_names
        return JSONResponse(
            {"status": "ok", "model": self._options.model, "class_names": names}
        )

    async def predict(self, request: Request) -> Response:
        """POST /predict."""
        top = _top(request)
        if self._free.locked():
            raise Refused(
                503,
                f"expected at most {self._options.max_requests} requests at once; received "
                "one more. Try again later.",
            )
        async with self._free:
            encoded = await self._body(request)
            encoded = await asyncio.get_running_loop().run_in_executor(
                self._threads, readable, encoded, self._options.max_megapixels
            )
            probabilities = await self._classify(encoded)
        return JSONResponse(self._answer(probabilities, top))

    async def _body(self, request: Request) -> bytes:
        """The whole body; what is too long is not read to its end."""
        limit = self._options.max_megabytes * 10**6
        declared = int(request.headers.get("content-length", 0))
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                if declared <= limit:
                    async for chunk in request.stream():
                        body += chunk
                        if len(body) > limit:
                            break
        except TimeoutError:
            raise Refused(
                408,
                f"body: expected all of it within {BODY_SECONDS} s; received {len(body):,} "
                "bytes. Send a smaller image.",
            ) from None
        except ClientDisconnect:  # Nobody reads the answer.
            raise Refused(400, "body: the connection was closed.") from None
        if max(declared, len(body)) > limit:
            received = f"{declared:,}" if declared else f"more than {int(limit):,}"
            raise Refused(
                413,
                f"body: expected at most {int(limit):,} bytes; received {received}. Send "
                "a smaller image, or start the server with a larger --max_megabytes.",
            )
        if not body:
            raise Refused(
                400,
                "body: expected the bytes of a JPEG or PNG file; received none. Send the "
                "file itself: curl --data-binary @cat.jpg …/predict.",
            )
        return bytes(body)

    def _answer(self, probabilities: np.ndarray, top: int) -> dict:
        names = self._model.class_names
        best = np.argsort(-probabilities, kind="stable")[:top]
        classes = [
            {"class_name": names[label], "probability": float(probabilities[label])}
            for label in best
        ]
        return {
            "class_name": classes[0]["class_name"],
            "confidence": classes[0]["probability"],
            "top": classes,
        }


def readable(encoded: bytes, max_megapixels: float) -> bytes:
    """The file if the model reads it as it is meant, else an RGB PNG of it.

    The model knows neither transparency nor CMYK, and takes the upper 8 of 16 bits. As in
    the data that it was trained on, transparent parts become white.

    Args:
        encoded: A file of any kind.
        max_megapixels: What may be decoded, in millions of pixels.

    Raises:
        Refused: No JPEG or PNG, too large, or damaged where it had to be decoded.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG")) as image:
            width, height = image.size
            if width * height > max_megapixels * 10**6:
                raise Refused(
                    413,
                    f"image: expected at most {max_megapixels:g} million pixels; received "
                    f"{width} x {height}. Send a smaller image, or start the server with "
                    "a larger --max_megapixels.",
                )
            plain = image.mode in ("L", "RGB") and "transparency" not in image.info
            if plain and getattr(image, "n_frames", 1) == 1:
                return encoded
            png = io.BytesIO()
            _rgb(image).save(png, "PNG", compress_level=1)
            return png.getvalue()
    except Image.UnidentifiedImageError:
        raise Refused(
            415,
            f"body: expected the bytes of a JPEG or PNG file; received {len(encoded):,} "
            f"bytes that start with {encoded[:8]!r}. Send the file itself, not a form or "
            "JSON (curl --data-binary @cat.jpg, not -d or -F), and convert other formats.",
        ) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise _undecodable(encoded, str(error)) from error


def _rgb(image: Image.Image) -> Image.Image:
    """The first frame over white, 8 bits a channel."""
    image.seek(0)
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip at 255.
        grey = np.asarray(image, np.float64) / 65535 * 255
        image = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    if "A" in image.mode or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _undecodable(encoded: bytes, reason: str) -> Refused:
    return Refused(
        400,
        f"body: expected a whole JPEG or PNG file; received {len(encoded):,} bytes that do "
        f"not decode: {reason}. Send the file again, or save it anew.",
    )


def _top(request: Request) -> int:
    """`?top=`."""
    text = request.query_params.get("top", "5")
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise Refused(
            400,
            f"top: expected an integer of at least 1; received {text[:40]!r}. Send "
            "/predict?top=5, or leave it out.",
        )
    return int(text)


async def _refusal(request: Request, refused: Refused) -> Response:  # noqa: ARG001
    return JSONResponse({"error": str(refused)}, refused.status)


async def _no_such_route(request: Request, error: HTTPException) -> Response:
    message = (
        f"address: expected POST /predict or GET /health; received {request.method} "
        f"{request.url.path[:80]}. Correct the address or the method."
    )
    return JSONResponse({"error": message}, error.status_code, error.headers)


def _positive(kind: Callable) -> Callable:
    def parsed(text):
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"expected more than 0; received {text}")
        return value

    return parsed


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", required=True, help="Directory of a SavedModel, as export writes it.")
    add("--host", default="127.0.0.1", help="0.0.0.0 to answer other machines. [127.0.0.1]")
    add("--port", type=int, default=8000, help="0: any that is free. [8000]")
    add(
        "--batch_size",
        type=_positive(int),
        default=16,
        help="Most images the model takes at once. [16]",
    )
    add(
        "--max_megabytes",
        type=_positive(float),
        default=20,
        help="Of a body, in millions of bytes. [20]",
    )
    add(
        "--max_megapixels",
        type=_positive(float),
        default=50,
        help="Of an image; decoded, a million take 3 MB, transparent ones 16. [50]",
    )
    add(
        "--max_requests",
        type=_positive(int),
        default=64,
        help="Answered at once; times --max_megabytes is what bodies may take. [64]",
    )
    return parser.parse_args()


def main() -> None:
    options = arguments()
    Image.MAX_IMAGE_PIXELS = None  # --max_megapixels takes its place.
    try:
        model = Model(options.model)
    except ValueError as error:
        sys.exit(f"error: {error}")
    uvicorn.run(
        Service(model, options).app(),
        host=options.host,
        port=options.port,
        timeout_graceful_shutdown=STOP_SECONDS,
    )


if __name__ == "__main__":
    main()
