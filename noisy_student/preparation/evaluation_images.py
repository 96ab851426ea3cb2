"""Images that accuracy is measured on, as something to compare others with."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from data import bad_records, records, sources
from data.errors import InputError
from data.records import BadRecord, Record, RecordSet
from noisy_student.config import DataConfig
from noisy_student.preparation.preparation import PreparedData, checked_records

OWN_SETS = ("validation", "test")  # Of the run itself.
_CONTRACT = bad_records.Contract("unlabeled")  # Labels do not matter here.


@dataclasses.dataclass(frozen=True)
class EvaluationImages:
    """A set of images, from shards or from any data set.

    Attributes:
        name: What it is called in tables and messages.
        num_images: How many; of files that are checked as they are read, unreadable
            ones included.
        fingerprint: Tells it from another without reading all of it.
        read: Yields its images, as `prepare` stores them; given a list, appends
            path, reason and label of those that are unreadable.
        find_bad: Looks for the bad record, once an image has failed to decode.
    """

    name: str
    num_images: int
    fingerprint: str
    read: Callable[[list], Iterator[Record]]
    find_bad: Callable[[], BadRecord | None]


def of_records(name: str, examples: RecordSet) -> EvaluationImages:
    """The images of shards; `read` raises `InputError` at a record without one."""
    return EvaluationImages(
        name,
        examples.num_examples,
        examples.fingerprint(),
        lambda _: (i for path in examples.files for i in stored_images(examples, path)),
        lambda: find_bad(examples, examples.files),
    )


def of_dataset(dataset: str, skip_bad_records: bool = False) -> EvaluationImages:
    """The images that a data set string names."""
    source = sources.open_source(dataset, labeled=False, skip_bad_records=skip_bad_records)
    if isinstance(source, sources.TFRecordSource):
        return of_records(dataset, source.record_set())
    everything = np.arange(len(source))
    return EvaluationImages(
        dataset,
        len(source),
        source.digest(everything),
        lambda bad: checked_records(source.read(everything), bad),
        lambda: None,  # Images are checked as they are read.
    )


def open_sets(against: Sequence[str], data: DataConfig) -> dict[str, EvaluationImages]:
    """Those of the named sets that are not the run's own, opened.

    Args:
        against: Data set strings, `validation`, `test`.
        data: Of the run.

    Raises:
        InputError: A set is none, or is not there.
    """
    repeated = {name for name in against if against.count(name) > 1}
    if repeated:
        raise InputError(
            "`dedup_against`: expected each set once; received more than once: "
            f"{', '.join(sorted(repeated))}."
        )
    if "validation" in against and not data.validation_data:
        raise InputError(
            "`dedup_against`: expected `validation` only together with --validation_data; "
            "received it without. Leave it out, or name the set."
        )
    searched = data.unlabeled_data or data.labeled_data
    if searched in against:
        raise InputError(
            f"`dedup_against`: expected sets other than {searched!r}, which holds the "
            "unlabeled images themselves: all of them would be duplicates. Leave it out."
        )
    skip = data.skip_bad_records
    return {name: of_dataset(name, skip) for name in against if name not in OWN_SETS}


def own_sets(prepared: PreparedData) -> dict[str, EvaluationImages]:
    """The run's validation and test images."""
    sets = prepared.evaluation_sets()
    return {name: of_records(name, examples) for name, examples in sets.items()}


def stored_images(examples: RecordSet, path: str) -> Iterator[Record]:
    """The images of one of a set's shards.

    Raises:
        InputError: A record has no image.
    """
    for position, example in records.numbered_examples(path, examples.skipped):
        image = example.features.feature[records.IMAGE].bytes_list.value
        if len(image) != 1:
            serialized = example.SerializeToString()
            bad = bad_records.check(path, position, serialized, _CONTRACT, decode=False)
            assert bad  # A contract of images is not kept.
            raise bad_records.as_error(bad)
        id_ = records.example_id(example, path, position)
        yield Record(id_, image[0], examples.true_label(example))


def find_bad(examples: RecordSet, paths: Sequence[str]) -> BadRecord | None:
    """The first record in some of a set's shards whose image does not decode."""
    return bad_records.find_first(paths, _CONTRACT, examples.skipped)
