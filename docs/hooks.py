"""Show the executed notebooks, the explorer and the slides in the documentation, without storing copies."""

import runpy
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]


@event_priority(100)  # before mkdocs-jupyter looks at the list of files
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every notebook of the walkthrough, and the solutions of its exercises, to the list of pages."""
    for path in sorted([*ROOT.glob("notebooks/[01]*.ipynb"), *ROOT.glob("notebooks/solutions/*.ipynb")]):
        source = path.relative_to(ROOT).as_posix()
        files.append(File(source, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_post_build(config):
    """Write the explorer and the slides beside the pages that show and link them."""
    from sdlab.explore.page import PAGE, write_page

    write_page(Path(config.site_dir) / PAGE)
    teaching = runpy.run_path(str(ROOT / "docs" / "teaching" / "slides.py"))
    teaching["write"](Path(config.site_dir) / "teaching" / "slides.html")
