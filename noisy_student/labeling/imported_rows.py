"""Predictions of other programs, row by row: checked, and found by id.

In memory are the hashes of ids and their rows; two ids of one hash are told apart.
"""

import dataclasses

import numpy as np

from data.errors import InputError
from data.id_hashes import hash_ids
from noisy_student.labeling.prediction_files import Block, PredictionFile

AT_ONCE = 1_000  # Ids that share a hash and are compared together.


class ImportedRows:
    """The rows of all files, numbered through and found by id.

    Args:
        found: The files.
        num_classes: C, of which each row has a probability.

    Attributes:
        num_classes: C.
        count: Rows in all files.

    Raises:
        InputError: A row is no distribution over the classes, an id comes twice, or
            there are none.
    """

    def __init__(self, found: list[PredictionFile], num_classes: int):
        self._files, self.num_classes = found, num_classes
        self._starts = np.cumsum([0] + [file.count for file in found])
        self.count = int(self._starts[-1])
        hashes = self._checked_hashes()
        self._rows = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._rows]
        self._of_equal_hash = self._compared()

    @property
    def first_id(self) -> bytes:
        ids, _ = self.read(np.zeros(1, np.int64))
        return ids[0]

    def find(self, ids: list[bytes]) -> np.ndarray:
        """int64 `[N]`, the row that has the hash of an id; -1: none has."""
        hashes = hash_ids(ids)
        at = np.searchsorted(self._hashes, hashes)
        at = np.minimum(at, self.count - 1)
        rows = np.where(self._hashes[at] == hashes, self._rows[at], -1)
        if self._of_equal_hash:
            for number, id_ in enumerate(ids):
                rows[number] = self._of_equal_hash.get(id_, rows[number])
        return rows

    def read(self, rows: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        """Ids and probabilities float32 `[N, C]` of rows in any order."""
        ids = [b""] * len(rows)
        probabilities = np.empty([len(rows), self.num_classes], np.float32)
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        for file, start in zip(self._files, self._starts, strict=False):
            first, last = np.searchsorted(ascending, [start, start + file.count])
            wanted = ascending[first:last] - start
            for block in file.blocks(wanted) if len(wanted) else ():
                ends = [block.first, block.first + len(block.ids)]
                low, high = first + np.searchsorted(wanted, ends)
                within = ascending[low:high] - start - block.first
                probabilities[order[low:high]] = block.probabilities[within]
                for number, row in zip(order[low:high], within, strict=True):
                    ids[number] = block.ids[row]
        return ids, probabilities

    def place(self, row: int) -> str:
        """File and number of a row."""
        file = int(np.searchsorted(self._starts, row, side="right")) - 1
        return f"{self._files[file].path} row {row - self._starts[file]}"

    def _checked_hashes(self) -> np.ndarray:
        """Hashes by row; refuses files with rows that are no distributions."""
        hashes = np.empty(self.count, np.uint64)
        faults = _Faults()
        for file, start in zip(self._files, self._starts, strict=False):
            for block in file.blocks():
                first = start + block.first
                hashes[first : first + len(block.ids)] = hash_ids(block.ids)
                faults.look_at(block, file, self.num_classes)
        faults.refuse()
        if not self.count:
            raise InputError(
                f"`import_predictions`: expected predictions; {len(self._files)} file(s) "
                f"such as {self._files[0].path} hold none."
            )
        return hashes

    def _compared(self) -> dict[bytes, int]:
        """Rows by id where different ids have one hash; refuses equal ids."""
        same = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
        found: dict[bytes, int] = {}
        for start in range(0, len(same), AT_ONCE):
            here = same[start : start + AT_ONCE]
            rows = np.unique(self._rows[np.concatenate([here, here + 1])])
            ids, _ = self.read(rows)
            for id_, row in zip(ids, rows.tolist(), strict=True):
                if found.setdefault(id_, row) != row:
                    raise InputError(
                        f"`import_predictions`: expected each id once; {len(same)} row(s) "
                        f"repeat one, such as {id_!r} in {self.place(found[id_])} and "
                        f"{self.place(row)}. Keep one prediction an image."
                    )
        return found


@dataclasses.dataclass
class _Faults:
    """What is wrong with rows: how often, and where first."""

    found: dict[str, list] = dataclasses.field(default_factory=dict)

    def look_at(self, block: Block, file: PredictionFile, num_classes: int) -> None:
        values = block.probabilities
        totals = values.sum(-1, dtype=np.float64)
        finite = np.isfinite(values).all(-1)
        named = np.array([bool(id_) for id_ in block.ids], bool)
        complete = block.lengths == num_classes
        negative = finite & (values < 0).any(-1)
        off = finite & ~negative & (np.abs(totals - 1) > file.tolerance)
        softmax = "(the softmax of logits)"
        for bad, expected, received in (
            (~named, "an id", lambda _: "none"),
            (
                ~complete,
                f"{num_classes} probabilities, one a class of --class_names",
                lambda row: block.lengths[row],
            ),
            (~finite, "finite probabilities", lambda _: "NaN or infinity"),
            (
                negative,
                f"probabilities of 0 or more {softmax}",
                lambda row: f"{values[row].min():.6g}",
            ),
            (
                off,
                f"probabilities that sum to 1 within {file.tolerance} {softmax}",
                lambda row: f"{totals[row]:.6g}",
            ),
        ):
            for row in np.flatnonzero(bad)[:1]:
                place = f"{file.path} row {block.first + row} (id {block.ids[row]!r})"
                first = f"{received(row)} in {place}"
                self.found.setdefault(expected, [0, first])[0] += int(bad.sum())

    def refuse(self) -> None:
        """Raises one `InputError` with all that was found."""
        if not self.found:
            return
        lines = [
            f"{count} row(s): expected {expected}; received {first}"
            for expected, (count, first) in self.found.items()
        ]
        raise InputError(
            "`import_predictions`: rows that are no predictions:\n  "
            + "\n  ".join(lines)
            + "\nMend what wrote these files, or leave such rows out."
        )
