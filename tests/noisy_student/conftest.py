"""What tests of training share: the proof that a kill changes nothing."""

import pytest

from noisy_student.training import training
from noisy_student.training.train_step import NoisyStudentTrainer
from noisy_student.training.training_loop import LoopOptions

SHORT_LOOPS = LoopOptions(steps_per_loop=2, checkpoint_interval="2 steps")


class Killed(BaseException):
    """Stands in for a kill: nothing catches it."""


@pytest.fixture
def assert_resumes(cpu, tmp_path, monkeypatch):
    """Trains a job in `unbroken`, and in `killed` with a kill and again.

    Given the job and before which loop of two steps it is killed; returns the model
    info of both, whose weights are equal.
    """

    def check(job, killed_before_loop):
        unbroken = training.train(job, str(tmp_path / "unbroken"), cpu, SHORT_LOOPS)
        whole, starts = NoisyStudentTrainer.train, []

        def dying(self, num_steps):
            starts.append(int(self.step.numpy()))
            if len(starts) == killed_before_loop:
                raise Killed
            return whole(self, num_steps)

        killed = str(tmp_path / "killed")
        with monkeypatch.context() as patch:
            patch.setattr(NoisyStudentTrainer, "train", dying)
            with pytest.raises(Killed):
                training.train(job, killed, cpu, SHORT_LOOPS)
        resumed = training.train(job, killed, cpu, SHORT_LOOPS)
        assert starts == list(range(0, 2 * killed_before_loop, 2))
        assert resumed.weights_sha256 == unbroken.weights_sha256
        return resumed

    return check
