"""The flags that say which benchmarks a model is measured on, and where their data is."""

from absl import flags

from noisy_student.evaluation_suite import registry
from noisy_student.evaluation_suite.benchmark import Benchmark
from noisy_student.evaluation_suite.registry import BenchmarkOptions
from noisy_student.models.model_files import ModelInfo
from tpu_scripts import record_flags, setting_flags

# They belong to the script that asks for them: --helpshort.
flags.disclaim_key_flags()


def define() -> None:
    """Defines --on, --data, a flag for the data of each other benchmark, and options."""
    flags.DEFINE_list("on", ["test"], f"Benchmarks: {', '.join(registry.NAMES)}.")
    own = ", ".join(registry.OWN)
    flags.DEFINE_string("data", "digits:test", f"Labeled set for {own}.")
    for name, default in registry.IMAGENET.items():
        flags.DEFINE_string(name, default, f"Data of --on={name}: folder:DIR or tfds:….")
    setting_flags.define(BenchmarkOptions)
    record_flags.define()


def chosen() -> list[str]:
    """The names given with --on, in the order in which they are run."""
    return registry.in_order(flags.FLAGS.on)


def open_benchmarks(info: ModelInfo, directory: str) -> list[Benchmark]:
    """The benchmarks of --on, all of them before the first is run.

    Args:
        info: Of the model, whose classes they must have.
        directory: Where shards of --data are written, if it has none.

    Raises:
        InputError: Data is missing, or of other classes.
    """
    options, records = setting_flags.override(BenchmarkOptions()), None
    found = []
    for name in chosen():
        if name in registry.IMAGENET:
            dataset = flags.FLAGS[name].value
            found.append(registry.open_imagenet(name, dataset, options, info))
            continue
        if records is None:
            records = record_flags.prepare(
                "data", flags.FLAGS.data, directory, info.class_names
            )
        found.append(registry.open_own(name, flags.FLAGS.data, records, options))
    return found
