"""The notebooks as pages for a browser that fetch nothing from elsewhere; `make site` calls this.

python notebooks/web.py              notebooks, glossary, and the README as the index
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote

import nbformat
from book import BADGE, NOTEBOOKS, PROJECT, find_address
from nbconvert import HTMLExporter
from tqdm import tqdm
from traitlets.config import Config

ADDRESS = find_address()
SITE = PROJECT / "build" / "site"
GLOSSARY = NOTEBOOKS / "glossary.ipynb"
LINK = re.compile(r"(?<=\]\()(?!https?:|#|data:)([^)\s#]+)(#[^)\s]*)?(?=\))")
PICTURES = {".png": "image/png", ".jpg": "image/jpeg"}


def to_page(
    notebook: nbformat.NotebookNode, folder: Path, out: Path, pages: Collection[str], *, title: str
) -> str:
    """A notebook as one page of HTML: cells that only draw are hidden, pictures are inside.

    Parameters
    ----------
    folder
        Where the notebook lies; its links are relative to that.
    out
        Where the page will lie.
    pages
        The names of all pages that lie there, without ".html"; what is none of them is linked
        online, or, where the project has no address, on this disk. "index" is the README.
    """
    notebook = nbformat.from_dict(notebook)
    notebook.metadata["title"] = title
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            source = cell.source.replace(f"![Open in Colab]({BADGE})", "Open in Colab")
            cell.source = LINK.sub(
                lambda found: leads_to(folder / found[1], out, pages) + (found[2] or ""), source
            )
    settings = {"TagRemovePreprocessor": {"enabled": True, "remove_input_tags": {"hide-input"}}}
    exporter = HTMLExporter(
        Config(settings),
        template_name="page",
        extra_template_basedirs=[str(NOTEBOOKS)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"path": str(folder)}})
    return page


def leads_to(target: Path, out: Path, pages: Collection[str]) -> str:
    """What a link to a file becomes on a page in `out`."""
    path = target.resolve()
    if path.suffix in PICTURES:
        return f"data:{PICTURES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
    name = (
        "index" if path == PROJECT / "README.md" else path.stem if path.suffix == ".ipynb" else ""
    )
    if name in pages:
        return f"{name}.html"
    if ADDRESS:
        return f"{ADDRESS}/{path.relative_to(PROJECT).as_posix()}"
    return quote(Path(os.path.relpath(path, out.resolve())).as_posix())


def write_page(
    path: Path, folder: Path, pages: Collection[str], *, origin: Path | None = None
) -> None:
    """A notebook, or the README, as a page in a folder; its links are meant from `origin`, or from
    where it lies.
    """
    if path.suffix == ".md":
        text = path.read_text(encoding="utf-8")
        notebook, name = (
            nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)]),
            "index",
        )
    else:
        notebook, name = nbformat.read(path, 4), path.stem
    title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    (folder / f"{name}.html").write_text(
        to_page(notebook, origin or path.parent, folder, pages, title=title), encoding="utf-8"
    )


def main() -> None:
    """Write the site, and say where it is."""
    SITE.mkdir(parents=True, exist_ok=True)
    paths = [PROJECT / "README.md", *sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")), GLOSSARY]
    pages = ["index", *(path.stem for path in paths[1:])]
    for path in tqdm(paths, "Writing pages", unit="page"):
        write_page(path, SITE, pages)
    print(f"{len(pages)} pages; begin with {SITE / 'index.html'}")


if __name__ == "__main__":
    main()
