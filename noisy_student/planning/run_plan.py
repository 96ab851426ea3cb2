"""The plan of a whole run, teacher to last student, and the speeds of its trainings."""

import dataclasses
import itertools
import os
import tempfile
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from data import records, soft_labels
from data.records import RecordSet
from noisy_student.config import Config
from noisy_student.iteration import checks, jobs
from noisy_student.planning.measurement import images_per_second
from noisy_student.planning.plan import (
    Plan,
    PlannedLabeling,
    PlannedSet,
    PlannedTraining,
    set_of,
)
from noisy_student.preparation import preparation, splits

_SAMPLE = 64  # Images whose sizes are looked at.
_INDEX_BYTES = 20  # Of a row beside its id: hash, label and confidence.
_STAND_INS = 512  # Unlabeled images that stand in for pseudo-labeled ones.


def plan_run(config: Config, strategy: tf.distribute.Strategy) -> Plan:
    """The plan of `iterate.iterate`: every image is taken for readable.

    Args:
        config: Checked.
        strategy: Where it will compute.
    """
    parts = splits.split(config.data, config.seed)
    data = preparation.unwritten(parts)
    checks.check_with_data(config, data)
    replicas = strategy.num_replicas_in_sync
    teacher = PlannedTraining("teacher", jobs.teacher_job(config, data), replicas)
    examples = len(parts["unlabeled"].indices)
    selection = config.selection
    if not config.online_teacher:
        if selection.images_per_class:
            examples = selection.images_per_class * data.labeled.num_classes
        else:
            examples = int(examples * selection.pool_fraction)
    pseudo = RecordSet((), (examples,), data.labeled.class_names)
    job = jobs.student_job(config, data, 1, pseudo)
    labeler = teacher.cost.multiply_adds if config.online_teacher else 0.0
    student = PlannedTraining("student", job, replicas, config.generations, labeler)
    trainings = [teacher, student]
    last = jobs.student_job(config, data, config.generations, pseudo)
    if last.training != job.training:
        before = config.generations - 1
        trainings[1] = dataclasses.replace(student, times=before)
        trainings.append(PlannedTraining("last student", last, replicas, labeler=labeler))
    if config.control:
        control = jobs.student_job(config, data, 1, None)
        trainings.append(PlannedTraining("control", control, replicas))
    sets = [_set_of_part(name, part, config) for name, part in parts.items()]
    labelings = []
    if not config.online_teacher:
        label_format = soft_labels.parse_format(config.label_format)
        times = {"teacher": 1, "student": config.generations - 1}
        labelings = [
            _labeling(parts["unlabeled"], sets, network, times[network.name], label_format)
            for network in (teacher, student)
            if times[network.name]
        ]
    return Plan(sets, trainings, labelings)


def _set_of_part(name: str, part: splits.Part, config: Config) -> PlannedSet:
    found = preparation.where_it_lies(part)
    if found:
        return set_of(name, found)
    count = len(part.indices)
    shards = preparation.num_shards(count, config.data.num_shards)
    size = int(count * _mean_bytes(part))
    return PlannedSet(name, count, shards, size, written=False)


def _mean_bytes(part: splits.Part) -> float:
    """Of an image's record, over a sample; sources in order give their first ones."""
    chosen = np.sort(part.indices)
    if not part.source.sequential:
        chosen = chosen[
            np.linspace(0, len(chosen) - 1, min(_SAMPLE, len(chosen)), dtype=int)
        ]
    sizes = [
        records.record_bytes(records.image_example(record))
        for record in part.source.read(chosen[:_SAMPLE])
    ]
    return float(np.mean(sizes))


def _labeling(
    part: splits.Part,
    sets: list[PlannedSet],
    network: PlannedTraining,
    times: int,
    label_format: soft_labels.LabelFormat,
) -> PlannedLabeling:
    (unlabeled,) = [each for each in sets if each.name == "unlabeled"]
    id_ = next(part.source.read(part.indices[:1])).id
    classes = network.job.labeled.num_classes
    row = {
        records.ID: id_.encode(),
        records.LABEL: 0,
        records.CONFIDENCE: 0.0,
        **soft_labels.encode(np.zeros(classes, np.float32), label_format),
    }
    labels = records.record_bytes(row) + len(id_) + _INDEX_BYTES
    return PlannedLabeling(
        unlabeled.images,
        network,
        times,
        prediction_bytes=unlabeled.images * labels,
        pseudo_labeled_bytes=(unlabeled.bytes or 0)
        + unlabeled.images * records.record_bytes(row),
    )


def speeds_of_run(
    config: Config, data_directory: str, strategy: tf.distribute.Strategy
) -> dict[str, float]:
    """Images a second of teacher and student; writes the run's data, and keeps them.

    Pseudo-labels are not there yet: some unlabeled images with equal probabilities
    stand in for them. An online teacher's forward passes are left out.

    Args:
        config: Checked.
        data_directory: Of the run.
        strategy: Where to compute.
    """
    data = preparation.prepare(config.data, data_directory, config.seed)
    teacher = jobs.teacher_job(config, data)
    found = {"teacher": images_per_second(teacher, strategy)}
    with tempfile.TemporaryDirectory() as directory:
        names = data.labeled.class_names
        pseudo_labeled = _stand_ins(data.unlabeled, names, directory)
        student = jobs.student_job(config, data, 1, pseudo_labeled)
        found["student"] = images_per_second(student, strategy)
    return found


def _stand_ins(
    unlabeled: RecordSet, class_names: Sequence[str], directory: str
) -> RecordSet:
    probabilities = np.full(len(class_names), 1 / len(class_names), np.float32)
    examples = (
        {
            records.IMAGE: example.features.feature[records.IMAGE].bytes_list.value[0],
            records.ID: records.example_id(example, path, position).encode(),
            records.LABEL: 0,
            records.CONFIDENCE: float(probabilities[0]),
            records.PROBABILITIES: probabilities,
        }
        for path in unlabeled.files
        for position, example in records.numbered_examples(path, unlabeled.skipped)
    )
    path = os.path.join(directory, records.shard_name("stand_in", 0, 1))
    count = records.write_shard(path, itertools.islice(examples, _STAND_INS))
    return RecordSet((path,), (count,), tuple(class_names))
