"""Show the executed notebooks and the explorer in the documentation without storing copies of them."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]


@event_priority(100)  # before mkdocs-jupyter looks at the list of files
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every notebook of the walkthrough to the list of pages."""
    for path in sorted(ROOT.glob("notebooks/[01]*.ipynb")):
        source = path.relative_to(ROOT).as_posix()
        files.append(File(source, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_post_build(config):
    """Write the explorer beside the pages; the page about it shows it in a frame."""
    from sdlab.explore.page import PAGE, write_page

    write_page(Path(config.site_dir) / PAGE)
