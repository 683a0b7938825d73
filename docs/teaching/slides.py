"""Write the slides of the route of 90 minutes: `python docs/teaching/slides.py slides.html`."""

import sys
from pathlib import Path

from sdlab.walkthrough.slides import read_route, write_slides

ROUTE = Path(__file__).with_name("route.md")
TITLE = "Why does self-distillation sometimes make a model reason worse?"


def write(output: Path) -> Path:
    """Write the slides to `output` and return it."""
    return write_slides(read_route(ROUTE), output, TITLE)


if __name__ == "__main__":
    print(write(Path(sys.argv[1] if len(sys.argv) > 1 else "slides.html")))
