"""Predictions made elsewhere: Parquet and `.npz` files, read and checked by blocks.

A Parquet file has the columns `id` (string or binary) and `probabilities` (list of
floats); an `.npz` file the arrays `id` `[N]` (strings) and `probabilities`
float `[N, C]`. Floats have 16, 32 or 64 bits.
"""

import abc
import contextlib
import dataclasses
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf

from data import files
from data.errors import InputError

ID, PROBABILITIES = "id", "probabilities"
TOLERANCE, HALF_TOLERANCE = 1e-3, 5e-3  # Of a row's sum; the other one of half floats.
_BLOCK_BYTES = 2**25
_UNREADABLE = (
    pa.ArrowException,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    RuntimeError,  # Of encrypted archives; NotImplementedError is one too.
    MemoryError,
    tf.errors.OpError,
)


@dataclasses.dataclass(frozen=True)
class Block:
    """Consecutive rows of a file.

    Attributes:
        first: Number of its first row in the file.
        ids: Byte strings, N of them; empty where there is none.
        probabilities: float32 `[N, C]`; 1/C in rows of another length.
        lengths: int64 `[N]`, the probabilities that each row has.
    """

    first: int
    ids: list[bytes]
    probabilities: np.ndarray
    lengths: np.ndarray


class PredictionFile(abc.ABC):
    """One file of predictions.

    Attributes:
        path: Where it is.
        count: Its rows.
        tolerance: How far the sum of a row may be from 1.
    """

    path: str
    count: int
    tolerance: float

    @abc.abstractmethod
    def blocks(self, wanted: np.ndarray | None = None) -> Iterator[Block]:
        """All rows in order, or the blocks that have any of them.

        Args:
            wanted: Numbers of rows, ascending.

        Raises:
            InputError: The file is damaged.
        """


def open_file(path: str, num_classes: int) -> PredictionFile:
    """A file of predictions for `num_classes` classes.

    Raises:
        InputError: It is neither kind, damaged, or has other columns or types.
    """
    kinds = {".parquet": _ParquetFile, ".npz": _NpzFile}
    kind = next((kinds[end] for end in kinds if path.endswith(end)), None)
    if kind is None:
        raise InputError(
            f"`import_predictions`: expected files that end in .parquet or .npz; received "
            f"{path}."
        )
    with _readable(path):
        return kind(path, num_classes)


class _ParquetFile(PredictionFile):
    def __init__(self, path: str, num_classes: int):
        self.path, self._num_classes = path, num_classes
        with _open_parquet(path) as file:
            self.count = file.metadata.num_rows
            types = {field.name: field.type for field in file.schema_arrow}
        _check_columns(path, types)
        _check_type(path, ID, types[ID], _is_string(types[ID]), "strings")
        is_list = _is_float_list(types[PROBABILITIES])
        _check_type(path, PROBABILITIES, types[PROBABILITIES], is_list, "lists of floats")
        is_half = pa.types.is_float16(types[PROBABILITIES].value_type)
        self.tolerance = HALF_TOLERANCE if is_half else TOLERANCE

    def blocks(self, wanted: np.ndarray | None = None) -> Iterator[Block]:
        first = 0
        with _readable(self.path), _open_parquet(self.path) as file:
            for group in range(file.metadata.num_row_groups):
                end = first + file.metadata.row_group(group).num_rows
                if wanted is None or _any_within(wanted, first, end):
                    yield from self._group(file, group, first)
                first = end

    def _group(self, file: pq.ParquetFile, group: int, first: int) -> Iterator[Block]:
        size = _rows_per_block(self._num_classes)
        for batch in file.iter_batches(size, [group], [ID, PROBABILITIES]):
            lengths, probabilities = self._matrix(batch.column(PROBABILITIES))
            ids = [_as_bytes(value) for value in batch.column(ID).to_pylist()]
            yield Block(first, ids, probabilities, lengths)
            first += len(ids)

    def _matrix(self, column):
        """Lengths of the lists, and those of C values as rows."""
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
        right = lengths == self._num_classes
        rows = np.full([len(lengths), self._num_classes], 1 / self._num_classes, np.float32)
        values = column.filter(pa.array(right)).flatten()
        values = values.to_numpy(zero_copy_only=False)  # Null becomes NaN.
        rows[right] = values.reshape(-1, self._num_classes)
        return lengths, rows


class _NpzFile(PredictionFile):
    def __init__(self, path: str, num_classes: int):
        self.path, self._num_classes = path, num_classes
        with _open_archive(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            arrays = {name: _Array(archive, path, name) for name in names}
        _check_columns(path, arrays)
        self._ids, self._probabilities = arrays[ID], arrays[PROBABILITIES]
        is_text = self._ids.dtype.kind in "SU" and len(self._ids.shape) == 1
        _check_type(path, ID, self._ids, is_text, "strings [N], not objects")
        self.count = self._ids.shape[0]
        shape = [self.count, num_classes]
        is_matrix = self._probabilities.dtype in (np.float16, np.float32, np.float64)
        is_matrix &= self._probabilities.shape == tuple(shape)
        expected = f"floats {shape}, by id and class of --class_names"
        _check_type(path, PROBABILITIES, self._probabilities, is_matrix, expected)
        is_half = self._probabilities.dtype == np.float16
        self.tolerance = HALF_TOLERANCE if is_half else TOLERANCE

    def blocks(self, wanted: np.ndarray | None = None) -> Iterator[Block]:
        size = _rows_per_block(self._num_classes)
        starts = [
            start
            for start in range(0, self.count, size)
            if wanted is None or _any_within(wanted, start, start + size)
        ]
        # Read as a stream, all of a file is compared with its checksums.
        mapped = wanted is not None
        with _readable(self.path), _open_archive(self.path) as archive:
            ids = self._ids.rows(archive, starts, size, mapped)
            probabilities = self._probabilities.rows(archive, starts, size, mapped)
            for start, names, rows in zip(starts, ids, probabilities, strict=True):
                lengths = np.full(len(rows), self._num_classes)
                names = [_as_bytes(name) for name in names.tolist()]
                yield Block(start, names, rows.astype(np.float32), lengths)


class _Array:
    """One array of an `.npz` file, read by rows."""

    def __init__(self, archive: zipfile.ZipFile, path: str, name: str):
        self._path, self._name = path, f"{name}.npy"
        with archive.open(self._name) as file:
            version = np.lib.format.read_magic(file)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            self.shape, self._by_column, self.dtype = read_header(file)
            self._header = file.tell()

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"

    def rows(
        self, archive: zipfile.ZipFile, starts: list[int], size: int, mapped: bool
    ) -> Iterator[np.ndarray]:
        """The rows from each start on, `size` of them where there are as many."""
        if self._by_column and len(self.shape) > 1:
            raise InputError(
                f"`import_predictions` {self._path}: expected `{self._name[:-4]}` in C "
                "order, row by row; received Fortran order. Save "
                "numpy.ascontiguousarray(probabilities)."
            )
        stored = archive.getinfo(self._name).compress_type == zipfile.ZIP_STORED
        can_map = mapped and stored and files.is_local(self._path)
        return (self._mapped if can_map else self._streamed)(archive, starts, size)

    def _mapped(self, archive, starts, size):
        start_of_file = archive.getinfo(self._name).header_offset
        with open(self._path, "rb") as file:
            file.seek(start_of_file)
            name, extra = struct.unpack("<26xHH", file.read(30))
        offset = start_of_file + 30 + name + extra + self._header
        array = np.memmap(self._path, self.dtype, "r", offset, self.shape)
        for start in starts:
            yield np.array(array[start : start + size])

    def _streamed(self, archive, starts, size):
        row_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:]))
        with archive.open(self._name) as file:
            for start in starts:
                file.seek(self._header + start * row_bytes)
                count = min(size, self.shape[0] - start)
                content = file.read(count * row_bytes)
                if len(content) < count * row_bytes:
                    raise EOFError(f"`{self._name}` ends before its last row.")
                values = np.frombuffer(content, self.dtype)
                yield values.reshape(count, *self.shape[1:])
            if starts and starts[-1] + size >= self.shape[0]:
                file.read(1)  # Its end, where the checksum is looked at.


def _open_parquet(path: str) -> pq.ParquetFile:
    if files.is_local(path):
        return pq.ParquetFile(path, memory_map=True)
    return pq.ParquetFile(_RemoteFile(path, "rb"))


@contextlib.contextmanager
def _open_archive(path: str) -> Iterator[zipfile.ZipFile]:
    with tf.io.gfile.GFile(path, "rb") as file, zipfile.ZipFile(file) as archive:
        yield archive


class _RemoteFile(tf.io.gfile.GFile):
    """With what PyArrow asks of a file besides."""

    closed = False


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    """Makes every library's error about a damaged file an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"`import_predictions` {path}: expected a whole Parquet or .npz file; it "
            f"cannot be read ({reason}). Write or copy it again."
        ) from error


def _check_columns(path: str, found: Collection[str]) -> None:
    missing = [name for name in (ID, PROBABILITIES) if name not in found]
    if missing:
        raise InputError(
            f"`import_predictions` {path}: expected the columns (arrays) `{ID}` and "
            f"`{PROBABILITIES}`; received {', '.join(found) or 'none'}. Rename them."
        )


def _check_type(
    path: str, name: str, received: object, is_right: bool, expected: str
) -> None:
    if not is_right:
        raise InputError(
            f"`import_predictions` {path}: expected {expected} in `{name}`; received "
            f"{received}. Write it again with that type."
        )


def _is_string(kind: pa.DataType) -> bool:
    types = pa.types
    return any(
        check(kind)
        for check in (
            types.is_string,
            types.is_large_string,
            types.is_binary,
            types.is_large_binary,
        )
    )


def _is_float_list(kind: pa.DataType) -> bool:
    types = pa.types
    checks = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return any(check(kind) for check in checks) and types.is_floating(kind.value_type)


def _any_within(wanted: np.ndarray, start: int, end: int) -> bool:
    return bool(np.searchsorted(wanted, start) < np.searchsorted(wanted, end))


def _rows_per_block(num_classes: int) -> int:
    return max(1, _BLOCK_BYTES // (4 * num_classes))


def _as_bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""
