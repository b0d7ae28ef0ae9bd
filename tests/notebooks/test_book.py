"""The series as one book: what is generated, what every notebook has, its pages for a browser."""

import re
import sys
from urllib.parse import unquote

import nbformat
import pytest

from conftest import PROJECT
from test_repository import committed_files

sys.path.insert(0, str(PROJECT / "notebooks"))
import book
import run
import web

PATHS = [book.NOTEBOOKS / f"{entry['file']}.ipynb" for entry in book.SERIES]
GLOSSARY = book.NOTEBOOKS / "glossary.ipynb"
EACH = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def markdown_of(path):
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]


def code_of(path):
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def test_the_series_is_all_the_notebooks_there_are():
    assert sorted(book.NOTEBOOKS.glob("[0-9]*.ipynb")) == PATHS


@EACH
def test_what_is_shared_is_as_it_was_generated(path):
    assert not book.bind(PATHS.index(path), nbformat.read(path, 4)), "run: make book"


def test_the_table_of_the_readme_is_as_it_was_generated():
    text = (PROJECT / "README.md").read_text()
    assert book.TABLE.findall(text) == [book.table()], "run: make book"


def test_another_address_of_the_repository_goes_into_every_notebook(monkeypatch):
    monkeypatch.setattr(book, "REPOSITORY", "https://github.com/somebody/photos")
    monkeypatch.setattr(book, "COLAB", "https://colab.research.google.com/github/somebody/photos")
    for number, path in enumerate(PATHS):
        notebook = nbformat.read(path, 4)
        assert book.bind(number, notebook)
        text = "\n".join(cell.source for cell in notebook.cells)
        assert f"github/somebody/photos/blob/main/notebooks/{path.name})" in text
        assert "git clone --quiet --depth 1 https://github.com/somebody/photos lookalike\n" in text
        assert "OWNER" not in text


def test_the_address_of_the_repository_is_written_by_hand_once():
    texts = {
        path: path.read_text()
        for path in committed_files()
        if path.suffix in (".py", ".md", ".toml", ".yml", ".yaml")
    }
    assert [path.name for path, text in texts.items() if f'"{book.REPOSITORY}"' in text] == [
        "pyproject.toml"
    ]
    by_hand = [
        path.name
        for path, text in texts.items()
        if book.REPOSITORY in text and path.name != "pyproject.toml"
    ]
    assert by_hand == []
    for path in PATHS:
        cells = nbformat.read(path, 4).cells
        with_it = [
            cell.metadata["tags"][0]
            for cell in cells
            if book.REPOSITORY.split("com/")[1] in cell.source
        ]
        assert with_it == ["book-title", "book-set-up"]


def test_all_are_rendered_in_one_environment_and_small_together():
    notebooks = [nbformat.read(path, 4) for path in PATHS]
    assert len({str(notebook.metadata.language_info) for notebook in notebooks}) == 1
    assert len({notebook.metadata.lookalike.machine for notebook in notebooks}) == 1
    lines = [
        output.get("text", "")
        for path in PATHS
        for cell in code_of(path)
        for output in cell.outputs
    ]
    machines = {
        line
        for text in lines
        for line in text.splitlines()
        if "TensorFlow 2" in line and "Keras" in line
    }
    assert len(machines) == 1
    assert sum(path.stat().st_size for path in PATHS) < 8_000_000


@EACH
def test_the_cells_are_short(path):
    lines = [sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in code_of(path)]
    assert max(lines) <= 15


@EACH
def test_three_exercises_have_their_solutions_folded_away(path):
    text = "\n".join(markdown_of(path))
    exercises = text.split("## Try it")[1]
    assert re.findall(r"^\*\*(\d)\.\*\*", exercises, re.MULTILINE) == ["1", "2", "3"]
    assert (
        exercises.count("<details><summary>Solution</summary>\n\n```python\n")
        == exercises.count("\n</details>")
        == 3
    )
    assert len(run.SOLUTION.findall(text)) == 3


def terms():
    """The glossary: each term with the notebook that it names."""
    cells = [source for source in markdown_of(GLOSSARY) if source.startswith("### ")]
    return {
        cell.splitlines()[0][4:]: re.findall(r"\((\d\d_\w+)\.ipynb\)", cell)[-1] for cell in cells
    }


def test_the_glossary_is_in_alphabetical_order():
    assert list(terms()) == sorted(terms())
    assert len(terms()) > 40


@pytest.mark.parametrize("term", terms())
def test_a_term_is_linked_where_it_first_matters(term):
    link = f"](glossary.ipynb#{term.replace(' ', '-')})"
    assert (
        next(path.stem for path in PATHS if link in "\n".join(markdown_of(path))) == terms()[term]
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web, "SITE", folder)
        web.main()
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}, folder


def test_the_site_has_a_page_a_notebook_a_glossary_and_an_index(site):
    pages, _ = site
    assert sorted(pages) == sorted(
        ["index.html", "glossary.html", *(f"{path.stem}.html" for path in PATHS)]
    )
    for entry in book.SERIES:
        assert f"<title>{entry['question']}</title>" in pages[f"{entry['file']}.html"]
        assert f'href="{entry["file"]}.html"' in pages["index.html"]


def test_solutions_are_folded_away_on_the_pages(site):
    for path in PATHS:
        folded = re.findall(
            r"<details>\s*<summary>Solution</summary>(.*?)</details>",
            site[0][f"{path.stem}.html"],
            re.DOTALL,
        )
        assert len(folded) == 3
        assert all('<div class="highlight">' in solution for solution in folded)


def test_every_link_among_the_pages_leads_somewhere(site):
    pages, _ = site
    for name, page in pages.items():
        for target in re.findall(r'<a\s[^>]*href="([^"]+)"', page):
            if target.startswith(("http", "mailto:")):
                continue
            other, _, anchor = target.partition("#")
            assert (other or name) in pages, f"{name} leads to {target}"
            assert not anchor or f'id="{unquote(anchor)}"' in pages[other or name], (
                f"{name} leads to {target}"
            )


def test_the_pages_need_nothing_but_themselves(site):
    for name, page in site[0].items():
        assert "<script" not in page
        assert not re.findall(
            r"<(?:img|link|iframe|source)\b[^>]*\b(?:src|href|srcset)=\"(?!data:)[^\"]*\"", page
        ), name
        assert not re.findall(r"url\([\"']?(?:https?:)?//|@import", page), name
        assert not re.findall(r"<img(?![^>]*\balt=\"[^\"])[^>]*>", page), (
            f"{name}: a picture without a text"
        )
