"""Weights: TF1 checkpoints, safetensors, and Keras files."""

import io
import os
import random
import struct
import tempfile
import zipfile

import efficientnet
from benchmarks.torture import mutations
from benchmarks.torture.readers.base import Reader, contents
from data.errors import InputError
from efficientnet import checkpoints
from noisy_student.models import conversion, model_files

_VARIANT = "efficientnet-b0"


class _Tiny(Reader):
    """A network of some thousand weights."""

    def __init__(self, directory: str, run: str):
        efficientnet_ = efficientnet.build_efficientnet
        self.model = efficientnet_(_VARIANT, num_classes=3, width=0.1, depth=0.1)
        super().__init__(directory, run)


class Tf1Index(_Tiny):
    """The `.index` file; the data beside it are whole."""

    name = "TF1 checkpoints: index"
    share = 0.4
    part = ".index"

    def files(self) -> list[bytes]:
        self._prefix = os.path.join(self.directory, "model.ckpt")
        checkpoints.save_tf1_checkpoint(self.model, self._prefix, _VARIANT)
        self._path = self._prefix + self.part
        return [contents(self._path)]

    def read(self, content: bytes) -> None:
        self.written(content, os.path.basename(self._path))
        try:
            checkpoints.tf1_num_classes(self._prefix)
            checkpoints.load_tf1_checkpoint(self.model, self._prefix)
        except ValueError as error:  # As `conversion.read_checkpoint` does.
            raise InputError(f"`checkpoint`: {error}") from error


class Tf1Data(Tf1Index):
    """The `.data-00000-of-00001` file; the index beside it is whole."""

    name = "TF1 checkpoints: data"
    part = ".data-00000-of-00001"


class Safetensors(_Tiny):
    name = "safetensors"
    share = 0.6

    def files(self) -> list[bytes]:
        path = os.path.join(self.directory, "model.safetensors")
        checkpoints.save_state_dict(self.model, path)
        return [contents(path)]

    def make(self, draw: random.Random) -> bytes:
        if draw.random() < 0.4:
            return super().make(draw)
        content = draw.choice(self.whole)
        (length,) = struct.unpack_from("<Q", content)
        header = mutations.mutated_json(content[8 : 8 + length], draw)
        return struct.pack("<Q", len(header)) + header + content[8 + length :]

    def read(self, content: bytes) -> None:
        path = self.written(content, "model.safetensors")
        try:
            checkpoints.state_dict_num_classes(path)
            checkpoints.load_state_dict(self.model, path)
        except ValueError as error:
            raise InputError(f"`checkpoint`: {error}") from error


class KerasFile(_Tiny):
    """Damaged as a file, or one of its parts within a whole archive."""

    name = "Keras files (.keras)"
    share = 0.15

    def files(self) -> list[bytes]:
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "model.keras")
            self.model.save(path)
            return [contents(path)]

    def make(self, draw: random.Random) -> bytes:
        if draw.random() < 0.3:
            return super().make(draw)
        buffer = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(draw.choice(self.whole))) as whole,
            zipfile.ZipFile(buffer, "w") as made,
        ):
            names = whole.namelist()
            chosen = draw.choice(names)
            for name in names:
                content = whole.read(name)
                if name == chosen:
                    is_json = name.endswith(".json")
                    mutate = mutations.mutated_json if is_json else mutations.mutated
                    content = mutate(content, draw)
                made.writestr(name, content)
        return buffer.getvalue()

    def read(self, content: bytes) -> None:
        model_files.load_keras(self.written(content, "model.keras"))


class KerasWeights(_Tiny):
    """`.weights.h5`, as for a model of keras.applications: HDF5 by h5py."""

    name = "Keras weights (.weights.h5)"
    share = 0.15

    def files(self) -> list[bytes]:
        path = os.path.join(self.directory, "model.weights.h5")
        self.model.save_weights(path)
        return [contents(path)]

    def read(self, content: bytes) -> None:
        conversion.load_weights(self.model, self.written(content, "model.weights.h5"))


READERS = (Tf1Index, Tf1Data, Safetensors, KerasFile, KerasWeights)
