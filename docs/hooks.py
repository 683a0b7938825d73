"""Show the executed notebooks of `notebooks/` in the documentation without copying them."""

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
