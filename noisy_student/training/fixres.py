"""FixRes: fine-tuning at a larger image size on images without noise.

Random crops show objects larger than the evaluation crop does, and statistics of
activations change with the size. A few steps on evaluation crops of the larger
size mend both (Touvron et al., arXiv 1906.06423; paper, section 3.1: the student
trains at a smaller size, then 1.5 epochs at a larger one on labeled images alone,
shallow layers fixed).

How many layers were fixed is not published; here it is half of the blocks.
"""

import dataclasses

from data.augmentation import without_noise
from data.errors import InputError
from data.records import RecordSet
from data.settings import from_dict
from efficientnet.freezing import num_blocks
from noisy_student import own_model
from noisy_student.config import ModelConfig, TrainingConfig
from noisy_student.config.ranges import check_positive
from noisy_student.config.training import check_training
from noisy_student.models import model_files
from noisy_student.models.warm_start import initial_weights
from noisy_student.stages.manifest import training_record
from noisy_student.training import optimizer
from noisy_student.training.job import TrainingJob

DURATION = "1.5 epochs"
# Where the published schedule ends: 350 epochs, 0.97 every 2.4.
_PUBLISHED_END = 0.016 * optimizer.DECAY_RATE**145


def default_settings(model: str) -> tuple[ModelConfig, TrainingConfig]:
    """The network of a model, and how to fine-tune it.

    The learning rate stays where the model's own training ended, as in the
    published code (`train_last_step_num`); of a model without record, such as a
    converted one, where the published schedule ends. Batch size, weight decay,
    label smoothing and average are those of the model's training.

    Args:
        model: Directory of a trained or converted model.

    Raises:
        InputError: It holds no model.
    """
    info = model_files.load_info(model)
    record = training_record(model, info.weights_sha256)
    if record:
        network = from_dict(ModelConfig, record["identity"]["model"])
        training = from_dict(TrainingConfig, record["identity"]["training"])
        check_training(training)
        images = record["results"]["images"]["labeled"]
        check_positive("images", images)
        training = _continued(training, images)
    else:
        # convert_checkpoint writes this crop for this kind of network alone.
        network = ModelConfig(variant=info.variant, small_image=info.crop == "pad")
        if own_model.is_own(info.variant):
            network = ModelConfig(model_fn=info.variant)
        training = TrainingConfig(base_learning_rate=_PUBLISHED_END)
    training = dataclasses.replace(
        training,
        duration=DURATION,
        train_ratio=1.0,
        warmup="0 steps",
        schedule="exponential",
        final_base_learning_rate=0.0,
        unlabeled_ratio=0.0,
        labeled_loss_weight=1.0,
    )
    return network, training


def fixres_job(
    model: str,
    labeled: RecordSet,
    network: ModelConfig,
    training: TrainingConfig,
    seed: int,
) -> TrainingJob:
    """The fine-tuning of a model, for `training.train`.

    Args:
        model: Directory of a trained or converted model.
        labeled: Records with true labels, of the model's classes.
        network: The model's, with the image size to fine-tune at.
        training: Loss, optimizer and schedule. A negative `frozen_blocks` becomes
            half of the blocks; of an own model nothing is frozen.
        seed: Of order and dropout.

    Raises:
        InputError: The image size is smaller than the model's.
    """
    info = model_files.load_info(model)
    if network.image_size < info.image_size:
        raise InputError(
            f"`image_size`: expected the {info.image_size} pixels of {model} or more, such "
            f"as {round(1.15 * info.image_size)}; received {network.image_size}."
        )
    if training.frozen_blocks < 0 and not network.model_fn:
        count = num_blocks(network.outline(labeled.num_classes))
        training = dataclasses.replace(training, frozen_blocks=count // 2)
    return TrainingJob(
        labeled=labeled,
        pseudo_labeled=None,
        model=network,
        training=training,
        augmentation=without_noise(info.crop),
        seed=seed,
        initial_weights=initial_weights(model),
    )


def _continued(training: TrainingConfig, num_labeled: int) -> TrainingConfig:
    """Settings whose schedule goes on where this training's ended."""
    schedule = optimizer.schedule_for(training, num_labeled)
    last = float(schedule(training.total_steps(num_labeled) - 1))
    base = last * 256 / training.labeled_per_step
    training = dataclasses.replace(training, base_learning_rate=base)
    if isinstance(schedule, optimizer.PublishedSchedule):
        images = schedule.decay_steps * training.labeled_per_step
        interval = f"{images / num_labeled!r} epochs"
        training = dataclasses.replace(training, decay_interval=interval)
    return training
