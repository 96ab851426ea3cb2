"""Where Apache Beam runs: in this process, on its cores, or on a cluster."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from data.errors import InputError

RUNNERS = ("direct", "dask", "dataflow", "flink", "spark", "portable")
_NAMES = {
    "dataflow": "DataflowRunner",
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
    "portable": "PortableRunner",
}


@dataclasses.dataclass(frozen=True)
class BeamRunner:
    """A runner and its options, as Beam spells them.

    Attributes:
        name: One of `RUNNERS`.
        options: Such as `--direct_num_workers=4`.

    Raises:
        InputError: No such runner, or an option that is none.
    """

    name: str = "direct"
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in RUNNERS:
            raise InputError(
                f"`runner`: expected one of {', '.join(RUNNERS)}; received {self.name!r}."
            )
        for option in self.options:
            if not option.startswith("--"):
                raise InputError(
                    "`beam_options`: expected options such as --direct_num_workers=4; "
                    f"received {option!r}."
                )
            owner = option.lstrip("-").partition("_")[0]
            if owner in ("direct", "dask", "flink", "spark") and owner != self.name:
                raise InputError(
                    f"`beam_options`: expected {option!r} with --runner={owner} alone; "
                    f"received it with --runner={self.name}. Leave it out, or choose that "
                    "runner."
                )
            if option == "--no_wait_until_finish":
                raise InputError(
                    "`beam_options`: expected no --no_wait_until_finish; each pass needs "
                    "the result of the one before."
                )

    @contextlib.contextmanager
    def pipeline(self) -> Iterator[beam.Pipeline]:
        """A `beam.Pipeline` that runs at the end of the `with` block.

        Raises:
            InputError: The one that a worker raised; Beam's own exception is its cause.
        """
        pipeline = beam.Pipeline(runner=self._runner(), options=self._options())
        try:
            with pipeline:
                yield pipeline
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            told = r"InputError: (.*?)( \[while running |$)"
            found = re.search(told, text, re.DOTALL)
            if not found:
                raise
            raise InputError(found[1]) from error
        finally:
            result = getattr(pipeline, "result", None)
            if client := getattr(result, "client", None):
                client.close()  # Of Dask, else one more is open with every pipeline.

    def _options(self) -> PipelineOptions:
        options = list(self.options)
        sized = ("dask_partition_size", "dask_npartitions")
        if self.name == "dask" and not any(_given(options, name) for name in sized):
            # Else up to 128 shards are one task, and nothing is divided.
            options.append("--dask_partition_size=1")
        several = self.name == "direct" and _given(options, "direct_num_workers")
        if several and not _given(options, "direct_running_mode"):
            options.append("--direct_running_mode=multi_processing")
        return PipelineOptions(options)

    def _runner(self):
        if self.name == "direct":
            # By name it may be Prism, which is fetched from the internet.
            from apache_beam.runners.portability.fn_api_runner import FnApiRunner

            return FnApiRunner()
        if self.name == "dask":
            try:
                from apache_beam.runners.dask.dask_runner import DaskRunner
            except ImportError as error:
                raise InputError(
                    f"`runner` dask: expected dask and distributed; {error}. Install "
                    "them: pip install dask distributed."
                ) from error
            return DaskRunner()
        return _NAMES[self.name]


def _given(options: Sequence[str], name: str) -> bool:
    return any(option.lstrip("-").partition("=")[0] == name for option in options)
