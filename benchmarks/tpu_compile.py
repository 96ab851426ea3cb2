"""Whether the training step compiles for a TPU, and its memory there, without a TPU.

    python3 -m venv venv-tpu && venv-tpu/bin/pip install -r requirements-tpu.txt
    venv-tpu/bin/pip install --no-deps "tf-models-official~=2.20.0" "tf-keras~=2.20.0"
    python3 -m venv venv-jax
    venv-jax/bin/pip install "jax[tpu]==0.10.2" "libtpu==0.0.42.1"
    venv-tpu/bin/python -m benchmarks.tpu_compile --jax_python=venv-jax/bin/python \\
        --replicas=8 --batch_size=128 --unlabeled_ratio=3 --precision=mixed_bfloat16

Takes the flags of a model and its training as `tpu_scripts.train` does; batch sizes are
those of all replicas. `NoisyStudentTrainer._loop` is traced under a `TPUStrategy` that
has no TPU; what it would send to the cores is lowered to HLO by TensorFlow and compiled
by the compiler in libtpu. Nothing runs: not a step, not the loop around it.
"""

import json
import os
import subprocess
import tempfile
import time

from absl import flags

# Before TensorFlow: libtpu would ask a cloud server, for minutes, which TPU this is.
os.environ.update(
    TPU_SKIP_MDS_QUERY="1",
    TPU_ACCELERATOR_TYPE="v3-8",
    TPU_CHIPS_PER_HOST_BOUNDS="2,2,1",
    TPU_HOST_BOUNDS="1,1,1",
    TPU_WORKER_HOSTNAMES="localhost",
    TPU_WORKER_ID="0",
    ALLOW_MULTIPLE_LIBTPU_LOAD="1",
)

import tensorflow as tf

from benchmarks import tpu_pretended, tpu_program
from data import files
from data.augmentation import Augmentation
from data.records import RecordSet
from noisy_student.config import ModelConfig, TrainingConfig
from noisy_student.models.inference import Predictor
from noisy_student.training.job import TrainingJob
from noisy_student.training.train_step import NoisyStudentTrainer
from tpu_scripts import setting_flags

_JAX_PYTHON = flags.DEFINE_string(
    "jax_python", "", "Python with JAX and libtpu that compiles; empty: only lower."
)
_TOPOLOGY = flags.DEFINE_string(
    "topology", "v3:2x2", "TPU to compile for, as JAX names it, with all its chips."
)
_REPLICAS = flags.DEFINE_integer("replicas", 8, "Cores; 1, or an even number.")
_CLASSES = flags.DEFINE_integer("classes", 1000, "Classes.")
_PROGRAM = flags.DEFINE_enum("program", "train", ["train", "label"], "What to compile.")
_EFFORT = flags.DEFINE_float(
    "effort", -1.0, "Of the compiler, -1 to 1; -1 takes half the time of 0."
)
_OUTPUT = flags.DEFINE_string("output", "", "JSON file to add the result to.")
for _settings in (ModelConfig, TrainingConfig):
    setting_flags.define(_settings)


def main():
    strategy = tpu_pretended.strategy(_REPLICAS.value)
    model = setting_flags.override(ModelConfig())
    training = setting_flags.override(TrainingConfig(batch_size=16 * _REPLICAS.value))
    began = time.monotonic()
    if _PROGRAM.value == "train":
        graph = traced_training(model, training, strategy)
    else:
        graph = traced_labeling(model, training, strategy)
    result = {"case": _case(), "trace_s": round(time.monotonic() - began), "programs": []}
    programs = tpu_program.device_programs(graph)
    for program in sorted(programs, key=lambda x: -len(x.operations)):
        result["programs"].append(_examined(program))
    if _OUTPUT.value:
        _add(result, _OUTPUT.value)


def traced_training(model: ModelConfig, training: TrainingConfig, strategy):
    """The graph of the trainer's loop, over batches of zeros."""
    names = tuple(str(number) for number in range(_CLASSES.value))
    examples = RecordSet((), (1_281_167,), names)
    pseudo_labeled = examples if training.unlabeled_ratio else None
    job = TrainingJob(examples, pseudo_labeled, model, training, Augmentation(), seed=0)
    with strategy.scope():
        trainer = NoisyStudentTrainer(job, strategy)
    batches = strategy.distribute_datasets_from_function(lambda _: _zeros(job))
    steps = tf.TensorSpec([], tf.int32)
    return trainer._loop.get_concrete_function(iter(batches), steps).graph


def _zeros(job: TrainingJob) -> tf.data.Dataset:
    size, replicas = job.model.resolution, _REPLICAS.value

    def rows(global_batch):
        count = global_batch // replicas
        images = tf.zeros([count, size, size, 3], tf.uint8)
        return {"image": images, "label": tf.zeros([count], tf.int32)}

    batch = {"labeled": rows(job.training.batch_size)}
    if job.pseudo_labeled:
        batch["pseudo_labeled"] = rows(job.pseudo_batch_size)
        count = job.pseudo_batch_size // replicas
        probabilities = tf.zeros([count, job.labeled.num_classes])
        batch["pseudo_labeled"]["probabilities"] = probabilities
    return tf.data.Dataset.from_tensors(batch).repeat()


def traced_labeling(model: ModelConfig, training: TrainingConfig, strategy):
    """The graph of `Predictor`, which labels and evaluates."""
    predictor = Predictor(model.build(_CLASSES.value), strategy, training.batch_size)
    shape = (predictor.batch_size // _REPLICAS.value, *[model.resolution] * 2, 3)
    images = strategy.experimental_distribute_values_from_function(
        lambda _: tf.zeros(shape)
    )
    draw = tf.TensorSpec([], tf.int64)
    return predictor._predict.get_concrete_function(images, draw).graph


def _examined(program: tpu_program.DeviceProgram) -> dict:
    began = time.monotonic()
    hlo = tpu_program.lowered(program)
    found = {
        "operations": len(program.operations),
        "variables": len(program.variables),
        # Chains of `efficientnet.fused` would be calls; they are for CPUs.
        "calls": sum("PartitionedCall" in op.type for op in program.operations),
        "cross_replica_sums": sum(
            op.type == "CrossReplicaSum" for op in program.operations
        ),
        "hlo_bytes": len(hlo),
        "lower_s": round(time.monotonic() - began),
    }
    if _JAX_PYTHON.value:
        found |= _compiled(hlo, program.written)
    print(json.dumps(found), flush=True)
    return found


def _compiled(hlo: bytes, aliases: list[int]) -> dict:
    with tempfile.NamedTemporaryFile(suffix=".hlo") as file:
        file.write(hlo)
        file.flush()
        arguments = [file.name, str(_REPLICAS.value), _TOPOLOGY.value]
        arguments += [json.dumps(aliases), str(_EFFORT.value)]
        command = [_JAX_PYTHON.value, "-m", "benchmarks.tpu_compile_hlo", *arguments]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def _case() -> dict:
    """The flags that were given, but for those that say where things are."""
    own = ("program", "topology", "replicas", "classes", "effort")
    case = {name: flags.FLAGS[name].value for name in own}
    settings = [name for cls in (ModelConfig, TrainingConfig) for name in _names(cls)]
    return case | {n: flags.FLAGS[n].value for n in settings if flags.FLAGS[n].present}


def _names(settings: type) -> list[str]:
    return [name for name in settings.__dataclass_fields__ if name in flags.FLAGS]


def _add(result: dict, path: str) -> None:
    """Replaces what the file says of the same case."""
    known = files.read_json(path) if os.path.exists(path) else []
    rows = [row for row in known if row["case"] != result["case"]]
    files.write_json(path, [*rows, result])


if __name__ == "__main__":
    setting_flags.run(main)
