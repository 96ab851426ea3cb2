"""Photos to measure with."""

import io
import os

from PIL import Image

SIZE = (500, 375)  # Width and height, about those of ImageNet.


def photos() -> list[bytes]:
    """JPEG files of scikit-learn's two photos, parts of them, at the usual size."""
    from sklearn.datasets import load_sample_images

    found = []
    for pixels in load_sample_images().images:
        photo = Image.fromarray(pixels)
        for left in (0, 40, 80):
            part = photo.crop((left, 0, left + 560, 420)).resize(SIZE)
            file = io.BytesIO()
            part.save(file, "JPEG", quality=90)
            found.append(file.getvalue())
    return found


def write_photos(
    directory: str, images: int, classes: int, shards: int = 1, labeled: bool = True
):
    """Shards of photos that repeat, as a `data.records.RecordSet`.

    Args:
        directory: Where they go.
        images: In each shard.
        classes: How many; labels go round.
        shards: How many.
        labeled: Whether records have labels.
    """
    from data import records

    kind, encoded, paths = "labeled" if labeled else "unlabeled", photos(), []
    for shard in range(shards):
        paths.append(os.path.join(directory, records.shard_name(kind, shard, shards)))
        examples = (
            records.Record(
                f"{shard}/{number}",
                encoded[number % len(encoded)],
                number % classes if labeled else -1,
            )
            for number in range(images)
        )
        records.write_shard(paths[-1], map(records.image_example, examples))
    names = tuple(map(str, range(classes)))
    return records.RecordSet(tuple(paths), (images,) * shards, names)
