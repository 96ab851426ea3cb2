"""What prepared images are like: counts, sizes, duplicates, and what looks wrong.

Written beside the shards as `data_report.json`, and as text for people. Files are
compared by their bytes: what differs by a resizing is found by `deduplication`.
"""

import csv
import dataclasses
import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from data import files
from data.records import Record, RecordSet
from noisy_student import tables
from noisy_student.preparation.evaluation_images import stored_images
from noisy_student.preparation.preparation import BAD_FILES, PreparedData
from noisy_student.stages.progress import Progress

REPORT = "data_report.json"
TINY_CLASS = 10  # Labeled images; below, a class is named in the report.
EVALUATION = ("validation", "test")
_EXAMPLES = 20  # Duplicates that are named.
_KEY_BYTES = 12  # Of SHA-256, kept for each image: which no two files share by chance.


@dataclasses.dataclass
class _Set:
    """What was seen of one set."""

    labels: Counter = dataclasses.field(default_factory=Counter)
    sides: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    inside: int = 0  # Images whose bytes an earlier one of the set has.
    shared: Counter = dataclasses.field(default_factory=Counter)  # By the other set.

    def note_duplicate(self, name: str, of: str) -> None:
        """One more image of this set, `name`, that the set `of` had before."""
        if name == of:
            self.inside += 1
        else:
            self.shared[of] += 1


def report(prepared: PreparedData, directory: str) -> dict:
    """Reads all sets once; writes and returns the report.

    Args:
        prepared: The sets, as `prepare` returned them.
        directory: Where `prepare` wrote them; the report goes there too.

    Returns:
        The content of `data_report.json`: by set `images`, `short_side` and
        `long_side` (least, median, most, in pixels), `repeated` (images whose bytes
        an earlier one of the set has) and `shared` (the same, of another set's);
        `classes` (images by set and class), `tiny_classes`, `bad_files` by reason,
        `conflicts` (same bytes with two labels) and `examples` of duplicates.
    """
    names = ("labeled", "validation", "test", "unlabeled")
    sets = {name: getattr(prepared, name) for name in names}
    sets = {name: value for name, value in sets.items() if value is not None}
    total = sum(value.num_examples for value in sets.values())
    progress = Progress("look at the data", total)
    seen: dict[bytes, tuple[str, str, int]] = {}  # Set, id and label of the first one.
    found: dict[str, _Set] = {}
    conflicts: list[list[str]] = []
    examples: list[list[str]] = []
    done = 0
    for name, record_set in sets.items():
        each = found[name] = _Set()
        for image in _images(record_set):
            label = image.label if name != "unlabeled" else -1
            if label >= 0:
                each.labels[label] += 1
            each.sides.append(_size(image.image))
            key = hashlib.sha256(image.image).digest()[:_KEY_BYTES]
            of, id_, other = seen.setdefault(key, (name, image.id, label))
            if (of, id_) != (name, image.id):
                pair = [of, id_, name, image.id]
                each.note_duplicate(name, of)
                if len(examples) < _EXAMPLES:
                    examples.append(pair)
                if min(label, other) >= 0 and label != other:
                    conflicts.append(pair)
            done += 1
            progress.update(done)
    progress.finish()
    written = {
        "sets": {name: _described(each) for name, each in found.items()},
        **_by_class(found, prepared.labeled.class_names),
        "bad_files": _bad_files(directory),
        "conflicts": conflicts,
        "examples": examples,
    }
    files.write_json(os.path.join(directory, REPORT), written)
    return written


def _images(record_set: RecordSet) -> Iterator[Record]:
    for path in record_set.files:
        yield from stored_images(record_set, path)


def _size(image: bytes) -> tuple[int, int]:
    """Shorter and longer side in pixels, read from the file's head; 0 where it has none."""
    try:
        with Image.open(io.BytesIO(image)) as opened:
            return min(opened.size), max(opened.size)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return 0, 0


def _described(found: _Set) -> dict:
    short, long = np.array(found.sides).T
    return {
        "images": len(found.sides),
        "short_side": _spread(short),
        "long_side": _spread(long),
        "repeated": found.inside,
        "shared": dict(found.shared),
    }


def _spread(sides: np.ndarray) -> dict[str, int]:
    quantiles = np.quantile(sides, (0, 0.5, 1), method="lower")
    return dict(zip(("least", "median", "most"), map(int, quantiles), strict=True))


def _by_class(found: dict[str, _Set], class_names: Sequence[str]) -> dict:
    sets = {name: each.labels for name, each in found.items() if each.labels}
    counts = {
        class_name: {name: labels[label] for name, labels in sets.items()}
        for label, class_name in enumerate(class_names)
    }
    tiny = [name for name, count in counts.items() if count["labeled"] < TINY_CLASS]
    return {"classes": counts, "tiny_classes": tiny}


def _bad_files(directory: str) -> dict[str, int]:
    """Skipped files by reason, the most frequent first."""
    path = os.path.join(directory, BAD_FILES)
    if not tf.io.gfile.exists(path):
        return {}
    with tf.io.gfile.GFile(path) as file:
        reasons = Counter(row["reason"] for row in csv.DictReader(file))
    return dict(reasons.most_common())


def as_text(found: dict) -> str:
    """The report for people: a table of the sets, and what looks wrong.

    Args:
        found: What `report` returned.
    """
    sides = ["shorter side: least – median – most", "longer side"]
    rows = [["set", "images", *sides, "repeated", "in other sets"]]
    for name, each in found["sets"].items():
        shared = ", ".join(f"{count:,} in {of}" for of, count in each["shared"].items())
        rows.append(
            [
                name,
                f"{each['images']:,}",
                _range(each["short_side"]),
                _range(each["long_side"]),
                f"{each['repeated']:,}",
                shared or "0",
            ]
        )
    return "\n".join([tables.format_table(rows), *_classes_as_text(found), *_notes(found)])


def _range(spread: dict[str, int]) -> str:
    return f"{spread['least']:,} – {spread['median']:,} – {spread['most']:,}"


def _classes_as_text(found: dict) -> list[str]:
    counts = {name: each["labeled"] for name, each in found["classes"].items()}
    rarest, most_common = (choose(counts, key=counts.__getitem__) for choose in (min, max))
    text = f"{len(counts)} classes: {counts[rarest]:,} labeled images"
    if counts[rarest] == counts[most_common]:
        return [f"{text} of each."]
    return [f"{text} of {rarest} to {counts[most_common]:,} of {most_common}."]


def _notes(found: dict) -> Iterator[str]:
    """What a person should look at, one sentence each, with the remedy."""
    tiny = found["tiny_classes"]
    if tiny:
        names = ", ".join(tiny[:5]) + (" …" if len(tiny) > 5 else "")
        yield (
            f"{len(tiny)} class(es) have fewer than {TINY_CLASS} labeled images: {names}. "
            "Label more of them, or merge them."
        )
    for reason, count in found["bad_files"].items():
        yield f"{count:,} file(s) were skipped: {reason} ({BAD_FILES})."
    if found["conflicts"]:
        first = found["conflicts"][0]
        yield (
            f"{len(found['conflicts'])} file(s) lie in two classes, such as {first[1]} "
            f"({first[0]}) and {first[3]} ({first[2]}). Keep the right one."
        )
    for name, each in found["sets"].items():
        for other, count in each["shared"].items():
            if name in EVALUATION or other in EVALUATION:
                yield (
                    f"{count:,} image(s) of {name} are also in {other}, where accuracy "
                    "would say too much. --dedup_by=bytes leaves unlabeled ones out; "
                    "remove others by hand."
                )
