"""The process that `guided` fuzzes one reader in: `READER RUN -OPTION=…` of libFuzzer.

Its first imports are counted: nothing else may load these modules before.
"""

import os
import sys
import tempfile

import atheris

_COUNTED = ["data", "noisy_student", "PIL", "zipfile", "gzip", "json.decoder", "scipy.io"]

with atheris.instrument_imports(include=_COUNTED):
    from benchmarks.torture import watched
    from benchmarks.torture.readers import READERS


def main():
    name, run, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory() as directory:
        reader = READERS[name](directory, os.path.abspath(run))
        corpus = os.path.join(directory, "corpus")
        os.makedirs(corpus)
        for number, whole in enumerate(reader.whole):
            with open(os.path.join(corpus, str(number)), "wb") as file:
                file.write(whole)

        def read(content: bytes) -> None:
            kind, error = watched.outcome(reader, content)
            if kind not in ("read", "refused"):
                raise RuntimeError(f"{kind}: {error} of {content[:200]!r}")

        os.chdir(directory)  # Where the fuzzer leaves what fails.
        longest = f"-max_len={2 * max(map(len, reader.whole))}"
        atheris.Setup([sys.argv[0], *options, longest, corpus], read)
        atheris.Fuzz()  # Does not return.


if __name__ == "__main__":
    main()
