"""What every chart must be: a picture that needs no script, with its numbers in words and nobody's markup in
it.
"""

from sdlab.charts.picture import picture_bundle


def check_picture(make, words: str) -> None:
    """make() is the chart, `words` a part of its text alternative."""
    bundle = picture_bundle(make().to_dict())
    assert words in bundle["text/plain"] and bundle["image/png"] and "<script" not in bundle["text/html"]
    assert "<b>" not in bundle["text/html"]
