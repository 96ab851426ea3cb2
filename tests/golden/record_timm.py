"""Records what timm's EfficientNet answers, at a size that fits a repository.

    python -m tests.golden.record_timm

Needs PyTorch and timm (requirements-peers.txt). Writes timm_tiny.safetensors, the
state dict as the Hugging Face hub has it, and timm_tiny.npz: `input`, NHWC pixels
normalized already, and `logits`. Recorded with timm 1.0.31 and torch 2.13.0.
"""

import pathlib

import numpy as np

WIDTH, DEPTH, CLASSES = 0.1, 1.1, 5


def main():
    from benchmarks import without_torchvision

    without_torchvision.install()
    import safetensors.torch
    import torch
    from timm.models import efficientnet

    torch.manual_seed(0)
    model = efficientnet._gen_efficientnet(
        "tf_efficientnet_b1",
        channel_multiplier=WIDTH,
        depth_multiplier=DEPTH,
        num_classes=CLASSES,
        bn_eps=1e-3,
        pad_type="same",
    )
    images = torch.randn(2, 3, 64, 64)
    model.train()
    with torch.no_grad():
        for _ in range(20):  # Gives the moving statistics values of their own.
            model(torch.randn(8, 3, 64, 64))
        for parameter in model.parameters():
            if parameter.ndim == 1:  # Biases and batch norm, which start alike.
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.eval()
        logits = model(images)
    here = pathlib.Path(__file__).parent
    safetensors.torch.save_file(model.state_dict(), here / "timm_tiny.safetensors")
    nhwc = images.permute(0, 2, 3, 1).contiguous().numpy()
    np.savez_compressed(here / "timm_tiny.npz", input=nhwc, logits=logits.numpy())


if __name__ == "__main__":
    main()
