"""Parquet indices, imported predictions, IDX and MATLAB files."""

import glob
import gzip
import io
import os
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io

from benchmarks.torture import mutations
from benchmarks.torture.readers.base import Reader, contents
from data.sources import svhn
from data.sources.arrays import idx
from noisy_student.labeling import predictions
from noisy_student.labeling.prediction_files import open_file

_CLASSES = 10


class ParquetIndex(Reader):
    name = "index of predictions (Parquet)"
    share = 2.0

    def files(self) -> list[bytes]:
        pattern = os.path.join(self.run, "generation_1", "predictions", "*.parquet")
        return [contents(path) for path in sorted(glob.glob(pattern))]

    def read(self, content: bytes) -> None:
        self.written(content, "shard.parquet")
        shard = os.path.join(self.directory, "shard.tfrecord")
        index = predictions.read_index(shard)
        assert len(index.ids) == len(index.labels) == len(index.confidences)


class _Imported(Reader):
    end: str

    def read(self, content: bytes) -> None:
        file = open_file(self.written(content, f"imported.{self.end}"), _CLASSES)
        for wanted in (None, np.array([1])):
            for block in file.blocks(wanted):
                assert len(block.ids) == len(block.probabilities) == len(block.lengths)


class ImportedParquet(_Imported):
    name = "imported predictions (Parquet)"
    end = "parquet"

    def files(self) -> list[bytes]:
        found = []
        for kind in (pa.float16(), pa.float32(), pa.float64()):
            rows = np.eye(_CLASSES, dtype=kind.to_pandas_dtype())
            table = pa.table(
                {
                    "id": [f"image {row}" for row in range(_CLASSES)],
                    "probabilities": pa.array(list(rows), pa.list_(kind)),
                }
            )
            buffer = pa.BufferOutputStream()
            pq.write_table(table, buffer)
            found.append(buffer.getvalue().to_pybytes())
        return found


class ImportedNpz(_Imported):
    name = "imported predictions (.npz)"
    end = "npz"

    def files(self) -> list[bytes]:
        found = []
        for save in (np.savez, np.savez_compressed):
            buffer = io.BytesIO()
            ids = np.array([f"image {row}" for row in range(_CLASSES)])
            save(buffer, id=ids, probabilities=np.eye(_CLASSES, dtype=np.float32))
            found.append(buffer.getvalue())
        return found


class _Idx(Reader):
    """Images or labels; the other file is whole."""

    part: str
    end = ""

    def __init__(self, directory: str, run: str):
        super().__init__(directory, run)
        for name, content in _idx_files().items():
            self.written(content, name)

    def files(self) -> list[bytes]:
        found = _idx_files()
        return [content for name, content in found.items() if self.part in name]

    def read(self, content: bytes) -> None:
        rank = 3 if self.part == "images" else 1
        self.written(content, f"train-{self.part}-idx{rank}-ubyte")
        source = idx(self.directory)
        for record in source.read(range(min(2, len(source)))):
            assert record.image


class IdxImages(_Idx):
    name = "IDX images"
    part = "images"


class IdxLabels(_Idx):
    name = "IDX labels"
    part = "labels"


class IdxGzip(_Idx):
    name = "IDX images (.gz)"
    part = "images"

    def __init__(self, directory: str, run: str):
        super().__init__(directory, run)
        os.remove(os.path.join(directory, "train-images-idx3-ubyte"))

    def files(self) -> list[bytes]:
        return [gzip.compress(content, mtime=0) for content in super().files()]

    def make(self, draw: random.Random) -> bytes:
        if draw.random() < 0.5:  # What it unpacks to is damaged.
            content = gzip.decompress(draw.choice(self.whole))
            return gzip.compress(mutations.mutated(content, draw), mtime=0)
        return super().make(draw)

    def read(self, content: bytes) -> None:
        self.written(content, "train-images-idx3-ubyte.gz")
        idx(self.directory)


def _idx_files() -> dict[str, bytes]:
    pixels = np.arange(5 * 8 * 8, dtype=np.uint8)
    images = bytes([0, 0, 8, 3]) + np.array([5, 8, 8], ">u4").tobytes() + pixels.tobytes()
    labels = bytes([0, 0, 8, 1]) + np.array([5], ">u4").tobytes() + bytes([0, 1, 2, 1, 0])
    return {"train-images-idx3-ubyte": images, "train-labels-idx1-ubyte": labels}


class Svhn(Reader):
    name = "SVHN (.mat)"
    share = 0.5

    def files(self) -> list[bytes]:
        found = []
        for packed in (False, True):
            buffer = io.BytesIO()
            content = {
                "X": np.arange(32 * 32 * 3 * 4, dtype=np.uint8).reshape(32, 32, 3, 4),
                "y": np.array([[1], [10], [3], [4]], np.uint8),
            }
            scipy.io.savemat(buffer, content, do_compression=packed)
            found.append(buffer.getvalue())
        return found

    def read(self, content: bytes) -> None:
        self.written(content, "test_32x32.mat")
        svhn.svhn(f"{self.directory}:test")


READERS = (
    ParquetIndex,
    ImportedParquet,
    ImportedNpz,
    IdxImages,
    IdxLabels,
    IdxGzip,
    Svhn,
)
