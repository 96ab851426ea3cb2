"""Image files: what `prepare_data` is given, and what it keeps, decoded."""

import io
import random
import struct
import zlib

import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.torture import mutations
from benchmarks.torture.readers.base import Reader
from data import crops, images
from data.errors import InputError

_BOMB = 60_000  # Pixels of a side.


class _Images(Reader):
    """Of one format. What is accepted must decode to the pixels' shape in TensorFlow."""

    share = 2.5
    saved: tuple[dict, ...]
    modes: tuple[str, ...]

    def files(self) -> list[bytes]:
        photo = Image.fromarray(load_sample_images().images[0][:48, :64])
        found = []
        for mode in self.modes:
            for settings in self.saved:
                buffer = io.BytesIO()
                picture = photo.convert(mode) if mode != "I;16" else _sixteen_bits(photo)
                picture.save(buffer, **settings)
                found.append(buffer.getvalue())
        tiny = io.BytesIO()
        Image.new(self.modes[0], (1, 1)).save(tiny, **self.saved[0])
        return [*found, tiny.getvalue()]

    def read(self, content: bytes) -> None:
        try:
            kept = images.checked_image_bytes(content)
        except images.BadImage as error:
            raise InputError(f"The image cannot be read: {error}") from error
        with tf.device("/CPU:0"):
            assert crops.decode(tf.constant(kept)).shape[-1] == 3


def _sixteen_bits(photo: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(photo.convert("L"), np.uint16) * 257)


class Jpeg(_Images):
    name = "images: JPEG"
    modes = ("RGB", "L", "CMYK")
    saved = (
        {"format": "JPEG"},
        {"format": "JPEG", "progressive": True},
        # Turned by a quarter.
        {"format": "JPEG", "exif": b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12"
         b"\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"},
    )  # fmt: skip


class Png(_Images):
    """With checksums that are right in half of the files, for the rest to be read."""

    name = "images: PNG"
    modes = ("RGB", "L", "RGBA", "P", "LA", "1", "I;16")
    saved = ({"format": "PNG"},)

    def make(self, draw: random.Random) -> bytes:
        content = super().make(draw)
        return _with_checksums(content) if draw.random() < 0.5 else content


class Gif(_Images):
    name = "images: GIF"
    modes = ("P", "L")
    saved = ({"format": "GIF"}, {"format": "GIF", "save_all": True, "loop": 0})


class Bmp(_Images):
    name = "images: BMP"
    share = 1.5
    modes = ("RGB", "L", "1")
    saved = ({"format": "BMP"},)


class WebP(_Images):
    name = "images: WebP"
    share = 1.5
    modes = ("RGB", "RGBA")
    saved = ({"format": "WEBP"}, {"format": "WEBP", "lossless": True})


class Tiff(_Images):
    name = "images: TIFF"
    share = 1.0
    modes = ("RGB", "L", "CMYK", "I;16")
    saved = ({"format": "TIFF"}, {"format": "TIFF", "compression": "tiff_lzw"})


class Bombs(_Images):
    """Some kilobytes that say that they are 60,000 x 60,000 pixels, or nearly."""

    name = "images: decompression bombs"
    share = 0.3
    modes = ("L",)
    saved = ({"format": "PNG"},)

    def make(self, draw: random.Random) -> bytes:
        side = draw.choice((_BOMB, 2**31 - 1, 20_000, 14_000, 2**16, 1))
        other = draw.choice((side, 1, _BOMB))
        kind = draw.choice(("png", "gif", "bmp", "jpeg"))
        content = getattr(self, f"_{kind}")(side, other)
        return mutations.mutated(content, draw) if draw.random() < 0.3 else content

    def _png(self, width: int, height: int) -> bytes:
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        rows = zlib.compress(bytes(2**20), 9)
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            _chunk(kind, content)
            for kind, content in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
        )

    def _gif(self, width: int, height: int) -> bytes:
        whole = io.BytesIO()
        Image.new("P", (4, 4)).save(whole, "GIF")
        sizes = struct.pack("<HH", width & 0xFFFF, height & 0xFFFF)
        content = bytearray(whole.getvalue())
        content[6:10] = sizes
        at = content.index(b",", 13)
        content[at + 5 : at + 9] = sizes
        return bytes(content)

    def _bmp(self, width: int, height: int) -> bytes:
        header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
        return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header + bytes(1000)

    def _jpeg(self, width: int, height: int) -> bytes:
        whole = io.BytesIO()
        Image.new("RGB", (16, 16)).save(whole, "JPEG")
        content = bytearray(whole.getvalue())
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = struct.pack(">HH", height & 0xFFFF, width & 0xFFFF)
        return bytes(content)


class RawRecords(_Images):
    """The same files in a record that nobody has looked at, decoded in a pipeline."""

    name = "images decoded unchecked"
    share = 2.0
    modes = ("RGB",)
    saved = ({"format": "JPEG"}, {"format": "PNG"}, {"format": "GIF"}, {"format": "BMP"})

    def files(self) -> list[bytes]:
        bombs = [
            make(Bombs.__new__(Bombs), _BOMB, _BOMB)
            for make in (Bombs._png, Bombs._gif, Bombs._bmp, Bombs._jpeg)
        ]
        return [*super().files(), *bombs]

    def read(self, content: bytes) -> None:
        try:
            with tf.device("/CPU:0"):
                crops.decode(tf.constant(content))
        # What `bad_records.PIPELINE_ERRORS` are made to name the record.
        except (tf.errors.InvalidArgumentError, ValueError) as error:
            raise InputError(f"The pipeline refuses the image: {error}") from error


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _with_checksums(content: bytes) -> bytes:
    """A PNG file whose chunks' checksums fit what is in them."""
    found, at = bytearray(content), 8
    while at + 12 <= len(found):
        (length,) = struct.unpack_from(">I", found, at)
        end = at + 8 + length
        if end + 4 > len(found):
            break
        struct.pack_into(">I", found, end, zlib.crc32(found[at + 4 : end]))
        at = end + 4
    return bytes(found)


READERS = (Jpeg, Png, Gif, Bmp, WebP, Tiff, Bombs, RawRecords)
