"""ImageNet-P: how often the class flips from frame to frame (arXiv 1903.12261).

The authors' folders: `gaussian_noise/n01440764/ILSVRC2012_val_00000293.mp4`, each a
video of one image under a perturbation. Frames are resized to the model's size.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from data import crops, files
from data.errors import InputError
from data.untuned import BATCHES_AHEAD, untuned
from noisy_student.evaluation import alexnet, flip_rate
from noisy_student.evaluation_suite import outcomes, plots, videos
from noisy_student.evaluation_suite.benchmark import Benchmark, BenchmarkData, Finished
from noisy_student.evaluation_suite.evaluated_model import EvaluatedModel
from noisy_student.evaluation_suite.generated import Generated
from noisy_student.evaluation_suite.imagenet_classes import wordnet_ids
from noisy_student.evaluation_suite.imagenet_data import NUM_CLASSES, checked, too_few
from noisy_student.evaluation_suite.outcomes import Table
from noisy_student.stages.progress import Progress

NAME = "imagenet_p"


class ImageNetP(Benchmark):
    """Flip probabilities by perturbation; the parts are the perturbations.

    Args:
        data: What it is run on.
        directory: Of the perturbations' folders.
        clips: Paths below it, by perturbation.
    """

    name = NAME

    def __init__(
        self, data: BenchmarkData, directory: str, clips: Mapping[str, Sequence[str]]
    ):
        self.data, self.parts, self.settings = data, tuple(clips), {}
        self._directory, self._clips = directory, clips

    def run(self, part: str, model: EvaluatedModel, title: str) -> Table:
        clips = self._clips[part]
        size = model.info.image_size
        found = Generated(
            lambda: self._frames(part),
            {
                "image": tf.TensorSpec([None, None, 3], tf.uint8),
                "label": tf.TensorSpec([], tf.int32),
                "clip": tf.TensorSpec([], tf.int32),
            },
        )
        batches = found.dataset.map(
            lambda row: {**row, "image": crops.whole_image(row["image"], size)},
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        batches = untuned(batches.batch(model.predictor.batch_size).prefetch(BATCHES_AHEAD))
        progress = Progress(title, len(clips), unit="videos")
        rows = []
        with found.errors():
            of_clips = _by_clip(model.predictor.over(batches))
            for at, (label, probabilities) in enumerate(of_clips):
                rows.append(_row(clips[at], label, probabilities, part))
                progress.update(at + 1)
        if len(rows) != len(clips):
            raise InputError(
                f"`{NAME}`: expected the {len(clips):,} videos of {part} counted before; "
                f"read {len(rows):,}. Run the command again."
            )
        table = {key: np.array([row[key] for row in rows]) for key in rows[0]}
        progress.finish(f"flip probability {np.mean(table['flips']):.4f}")
        return table

    def _frames(self, part: str) -> Iterator[dict]:
        numbers = {name: label for label, name in enumerate(wordnet_ids())}
        for clip, path in enumerate(self._clips[part]):
            label = numbers[path.split("/")[0]]
            whole = os.path.join(self._directory, part, path)
            for frame in videos.frames(whole):
                yield {"image": frame, "label": label, "clip": clip}

    def scores(self, tables: Mapping[str, Table]) -> Table:
        """Flip probabilities, 0 to 1, by perturbation; `top_1` of frames; `mfr`."""
        columns = {part: (table["id"], table["flips"]) for part, table in tables.items()}
        everything = [t for part, t in tables.items() if part in alexnet.FLIPS]
        rows = outcomes.joined(everything or list(tables.values()))
        columns["top_1"] = rows["id"], rows["top_1"]
        scores = outcomes.by_id(columns)
        rates = [scores[name] / of for name, of in alexnet.FLIPS.items() if name in scores]
        # Only where each image has a video under each of them is the mean that of images.
        whole = not self.data.missing and len(rates) == len(alexnet.FLIPS)
        if whole and np.isfinite(rates).all():
            scores["mfr"] = 100 * np.mean(rates, axis=0)
        return scores

    def results(self, done: Finished) -> dict:
        """`flip_probability` and `top_5_distance` by perturbation; mFR if it is whole."""
        flips = _means(done.tables, "flips")
        frames = sum(int(table["frames"].sum()) for table in done.tables.values())
        right = sum(float((t["top_1"] * t["frames"]).sum()) for t in done.tables.values())
        result = {
            "flip_probability": flips,
            "top_5_distance": _means(done.tables, "distance"),
            "top_1": right / frames,
            "videos": sum(len(table["id"]) for table in done.tables.values()),
            "frames": frames,
        }
        if self.data.missing:
            return result
        return {**flip_rate.flip_rates(flips), **result}

    def draw(self, done: Finished, path: str) -> None:
        shares = {part: float(np.nanmean(done.scores[part])) for part in self.parts}
        plots.shares(shares, "flip probability (%)", path)


def open_imagenet_p(dataset: str, allow_partial: bool) -> ImageNetP:
    """The benchmark in the authors' folders, with extra perturbations if any.

    Raises:
        InputError: A perturbation is missing, or a folder is of no class of ImageNet.
    """
    kind, _, directory = dataset.partition(":")
    if kind != "folder" or not directory:
        raise InputError(
            f"`{NAME}`: expected folder:DIR with gaussian_noise/n01440764/*.mp4, as its "
            f"authors publish it; received {dataset!r}."
        )
    if not files.is_local(directory):
        raise InputError(
            f"`{NAME}`: expected a folder of this machine, since OpenCV reads the videos; "
            f"received {directory!r}. Copy it here."
        )
    videos.check_installed()
    clips, missing = {}, []
    digest = hashlib.sha256()
    for perturbation in alexnet.FLIPS | alexnet.EXTRA_FLIPS:
        found = _clips(os.path.join(directory, perturbation))
        if found:
            clips[perturbation] = found
            folder = os.path.join(directory, perturbation)
            sizes = [os.path.getsize(os.path.join(folder, path)) for path in found]
            named = zip(found, map(str, sizes), strict=True)
            digest.update("\0".join([perturbation, *map(":".join, named)]).encode())
        elif perturbation in alexnet.FLIPS:
            missing.append(perturbation)
    if not clips:
        raise InputError(
            f"`{NAME}`: expected folders such as gaussian_noise/n01440764 with videos "
            f"(.mp4) in {directory}; found none."
        )
    most = max(map(len, clips.values()))
    for perturbation, found in clips.items():
        classes = {path.split("/")[0] for path in found}
        missing += too_few(len(classes), NUM_CLASSES, f"classes of {perturbation}")
        if len(found) < most:
            missing.append(f"videos of {perturbation}: {len(found):,} of {most:,}")
    data = checked(NAME, dataset, digest.hexdigest()[:16], missing, allow_partial)
    return ImageNetP(data, directory, clips)


def _clips(directory: str) -> list[str]:
    """`n01440764/name.mp4` of all videos, sorted."""
    paths = sorted(tf.io.gfile.glob(os.path.join(directory, "*", "*.mp4")))
    found = ["/".join(path.split("/")[-2:]) for path in paths]
    known = set(wordnet_ids())
    other = next((path for path in found if path.split("/")[0] not in known), None)
    if other:
        raise InputError(
            f"`{NAME}`: expected folders named by ImageNet's classes, such as n01440764; "
            f"received {os.path.join(directory, other)}."
        )
    return found


def _means(tables: Mapping[str, Table], column: str) -> dict[str, float]:
    return {part: float(np.mean(table[column])) for part, table in tables.items()}


def _by_clip(batches: Iterable[dict]) -> Iterator[tuple[int, np.ndarray]]:
    """Label and probabilities `[T, C]` of each video, whatever the batches."""
    clip, label, held = None, -1, []
    for batch in batches:
        for at, of, probabilities in zip(
            batch["clip"], batch["label"], batch["probabilities"], strict=True
        ):
            if clip is not None and at != clip:
                yield label, np.stack(held)
                held = []
            clip, label = at, int(of)
            held.append(probabilities)
    if held:
        yield label, np.stack(held)


def _row(path: str, label: int, probabilities: np.ndarray, perturbation: str) -> dict:
    classes = probabilities.argmax(-1)
    if len(classes) < 2:
        raise InputError(
            f"`{NAME}`: expected videos of two frames or more; {perturbation}/{path} has "
            f"{len(classes)}."
        )
    return {
        "id": path,
        "label": label,
        "frames": len(classes),
        "flips": flip_rate.flip_probability(classes[None], perturbation),
        "distance": flip_rate.top_5_distance(probabilities[None], perturbation),
        "top_1": float(np.mean(classes == label)),
    }
