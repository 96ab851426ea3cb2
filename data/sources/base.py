"""What every source of images offers."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from data.records import BadRecord, Record


class Source:
    """Images with ids that can be read by index.

    Attributes:
        class_names: Names by label, or None where nothing is labeled.
        labels: int64 `[N]`, -1 where unknown.
        sequential: Reading in order is much cheaper than at random.
        skipped: Bad records that are none of these images.
    """

    class_names: tuple[str, ...] | None
    labels: np.ndarray
    sequential = False
    skipped: tuple[BadRecord, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self, indices: Sequence[int] | np.ndarray) -> str:
        """Tells a choice of this source's images from another, without reading them.

        Shards of equal digest are kept. This one knows indices and labels alone:
        to be overridden where other images may have the same.
        """
        indices = np.sort(np.asarray(indices, np.int64))
        digest = hashlib.sha256(indices.tobytes())
        digest.update(self.labels[indices].tobytes())
        return digest.hexdigest()[:16]

    def forget_labels(self, class_names: Sequence[str]) -> None:
        """Labels are of other classes than these: the truth is unknown."""
        self.labels = np.broadcast_to(np.int64(-1), len(self))
        self.class_names = tuple(class_names)

    def name_of(self, index: int) -> str:
        """Where an image is, for messages."""
        return next(self.read([index])).id

    def read(self, indices: Sequence[int] | np.ndarray) -> Iterator[Record]:
        """Yields the records at `indices` (ascending if `sequential`).

        The image bytes are as found: `data.images` has yet to check them.
        """
        raise NotImplementedError

    def encoded(self) -> tf.data.Dataset:
        """All of them in order, as found: dicts of `id`, `label`, `encoded`.

        Scalars: string, int32 (-1 unknown), and string, the file's bytes. Where files
        can be read several at once, to be overridden.
        """

        def rows():
            for record in self.read(range(len(self))):
                yield {"id": record.id, "label": record.label, "encoded": record.image}

        kinds = {"id": tf.string, "label": tf.int32, "encoded": tf.string}
        signature = {name: tf.TensorSpec([], kind) for name, kind in kinds.items()}
        return tf.data.Dataset.from_generator(rows, output_signature=signature)
