"""Render a notebook as HTML without network and JavaScript: formulas as MathML, pictures inlined.

nbconvert does the conversion. Its own page templates are not used, because they fetch MathJax, require.js and
the widget manager from a CDN.
"""

import copy
import html
import re

import nbformat
from bs4 import BeautifulSoup, Tag
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from sdlab.walkthrough.failures import WIDGET_VIEW

PICTURES = ("image/svg+xml", "image/png", "image/jpeg")
ADDRESSED = {  # attributes whose address a browser fetches by itself; the links of <a> are not among them
    "script": "src", "link": "href", "img": "src", "iframe": "src", "embed": "src", "source": "src",
    "video": "src", "audio": "src", "track": "src", "object": "data", "input": "src",
}  # fmt: skip
CDN = re.compile(r"cdn\.jsdelivr\.net|unpkg\.com|cdnjs\.cloudflare\.com|esm\.sh|esm\.run|skypack\.dev")
CSS_FETCH = re.compile(r"@import[^;]*;|url\(\s*['\"]?(?:https?:)?//[^)]*\)")
WIDGET_NOTE = (
    "<p class='widget-note'>Interactive in JupyterLab; the picture beside it is its starting state.</p>"
)


def body(notebook: nbformat.NotebookNode) -> str:
    """Return the cells of `notebook` as HTML, each with its id `cell-id=ID` as anchor."""
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.register_filter("markdown2html", markdown)
    still = _still(notebook)
    page, _ = exporter.from_notebook_node(still)
    for cell in still.cells:
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            page = _folded(page, f"cell-id={cell.id}")
    page = page.replace("<th></th>", "<td></td>")  # pandas: a header without a word heads nothing
    return offline(page)


def _folded(page: str, cell: str) -> str:
    """Return `page` with the code of one cell folded; `cell` is the id of its element."""
    opening, summary = '<div class="input_area">', '<details class="input_area"><summary>Code</summary>'
    start = page.find(opening, page.find(f'id="{cell}"'))
    end = page.find("</div>", page.find("</pre></div>", start) + len("</pre></div>"))
    if start < 0 or end < 0:
        return page
    return (
        page[:start] + summary + page[start + len(opening) : end] + "</details>" + page[end + len("</div>") :]
    )


def markdown(source: str) -> str:
    """Return Markdown with LaTeX between dollars (or in an environment) as HTML with MathML."""
    return MarkdownWithMath(renderer=_Renderer(escape=False)).render(source)


def mathml(latex: str, display: str = "inline") -> str:
    """Return one formula as MathML, or as its LaTeX source where it cannot be converted."""
    known = re.sub(r"\\(begin|end)\{(aligned|gathered)\}", r"\\\1{split}", latex)
    try:
        return convert(known, display=display)
    except Exception:  # the converter's errors have no common base class
        return f"<code class='latex'>{html.escape(latex)}</code>"


class _Renderer(IPythonRenderer):
    def block_math(self, body: str) -> str:
        return f"<div class='formula'>{mathml(body, 'block')}</div>"

    def inline_math(self, body: str) -> str:
        return mathml(body)

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")


def _still(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a copy in which every output can be shown by a plain web page."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            notebook.cells = [
                one for one in notebook.cells if "parameters" not in one.metadata.get("tags", [])
            ]
            cell.source = "# this run's parameters\n" + cell.source.removeprefix("# Parameters\n")
        for output in cell.get("outputs", []):
            data = output.get("data")
            if data is None:
                continue
            if WIDGET_VIEW in data:
                output.data = nbformat.from_dict({"text/html": WIDGET_NOTE})
            elif fetches(data.get("text/html", "")) and any(picture in data for picture in PICTURES):
                del data["text/html"]
            elif "text/latex" in data and "text/html" not in data:
                data["text/html"] = mathml(data["text/latex"].strip().strip("$").strip(), "block")
    return notebook


def fetches(page: str) -> list[str]:
    """Return what a browser would load from the network for `page`: addresses, or the CDN a script names."""
    if "//" not in page:
        return []
    addresses: list[str] = []
    for tag in BeautifulSoup(page, "html.parser").find_all([*ADDRESSED, "style"]):
        address = _address(tag)
        if address:
            addresses.append(address)
        elif tag.name in ("script", "style"):
            addresses += (CDN if tag.name == "script" else CSS_FETCH).findall(tag.get_text())
    return addresses


def offline(page: str) -> str:
    """Return `page` without anything that would be fetched; a remote picture becomes a link with its text."""
    if not fetches(page):
        return page
    soup = BeautifulSoup(page, "html.parser")
    for tag in soup.find_all([*ADDRESSED, "style"]):
        address = _address(tag)
        if tag.name == "style":
            text = CSS_FETCH.sub("", tag.get_text())
            tag.clear()
            tag.append(text)
        elif tag.name == "img" and address:
            link = soup.new_tag("a", href=address)
            link.string = str(tag.get("alt") or address)
            tag.replace_with(link)
        elif address or (tag.name == "script" and CDN.search(tag.get_text())):
            tag.decompose()
    return str(soup)


def _address(tag: Tag) -> str | None:
    value = str(tag.get(ADDRESSED.get(tag.name, ""), "") or tag.get("srcset", ""))
    return value if re.match(r"\s*(https?:)?//", value, re.IGNORECASE) else None
