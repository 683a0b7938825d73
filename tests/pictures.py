"""What every chart must be: a picture that needs no script, with its numbers in words and nobody's markup in
it.
"""

import io

import numpy as np

from sdlab.charts.picture import picture_bundle


def check_picture(make, words: str) -> None:
    """make() is the chart, `words` a part of its text alternative."""
    bundle = picture_bundle(make().to_dict())
    assert words in bundle["text/plain"] and bundle["image/png"] and "<script" not in bundle["text/html"]
    assert "<b>" not in bundle["text/html"]


def letters_and_card(screenshot: bytes, title: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """The colours (red, green, blue up to 255) of a chart's title, in its first rows, and of its card."""
    from PIL import Image

    with Image.open(io.BytesIO(screenshot)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    card = np.median(pixels.reshape(-1, 3), axis=0)
    top = pixels[5:title, 10:-10].reshape(-1, 3)
    return top[np.abs(top - card).sum(axis=1).argmax()], card
