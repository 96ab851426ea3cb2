"""Photos to measure with."""

import io

from PIL import Image

SIZE = (500, 375)  # Width and height, about those of ImageNet.


def photos() -> list[bytes]:
    """JPEG files of scikit-learn's two photos, parts of them, at the usual size."""
    from sklearn.datasets import load_sample_images

    found = []
    for pixels in load_sample_images().images:
        photo = Image.fromarray(pixels)
        for left in (0, 40, 80):
            part = photo.crop((left, 0, left + 560, 420)).resize(SIZE)
            file = io.BytesIO()
            part.save(file, "JPEG", quality=90)
            found.append(file.getvalue())
    return found
