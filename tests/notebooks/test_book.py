"""The series as one book: what is generated, what every notebook has, its pages for a browser."""

import re
import shutil
import subprocess
import sys
from urllib.parse import unquote

import book
import nbformat
import pytest
import run
import web
from test_colab import bound, commit, git
from test_notebooks import code_of, markdown_of, text_of

from conftest import PROJECT

PATHS = [book.NOTEBOOKS / f"{entry['file']}.ipynb" for entry in book.SERIES]
EACH = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def test_the_series_is_all_the_notebooks_there_are():
    assert sorted(book.NOTEBOOKS.glob("[0-9]*.ipynb")) == PATHS


@EACH
def test_what_is_shared_is_as_it_was_generated(path):
    assert not book.bind(PATHS.index(path), nbformat.read(path, 4)), "run: make book"


def test_the_table_of_the_readme_is_as_it_was_generated():
    text = (PROJECT / "README.md").read_text()
    assert book.TABLE.findall(text) == [book.table()], "run: make book"


def test_all_notebooks_have_one_address_or_none():
    assert len({book.known_address(nbformat.read(path, 4)) for path in PATHS}) == 1


@pytest.mark.parametrize("address", ["https://github.com/somebody/photos/blob/master", ""])
def test_an_address_goes_into_the_badge_and_into_one_short_set_up_cell(address):
    cells = set()
    for number, path in enumerate(PATHS):
        notebook = nbformat.read(path, 4)
        book.bind(number, notebook, address)
        assert book.known_address(notebook) == (address or book.known_address(notebook))
        assert not book.bind(number, notebook)  # without one it stays as it is
        cells.add(tagged(notebook, "book-set-up").source)
        assert "hide-input" in tagged(notebook, "book-set-up").metadata.tags
        if address:
            badge = f"github/somebody/photos/blob/master/notebooks/{path.name})"
            assert badge in tagged(notebook, "book-title").source
    (set_up,) = cells
    assert len([line for line in set_up.splitlines() if line.strip()]) <= 14
    if address:
        assert "git clone --quiet --depth 1 https://github.com/somebody/photos lookalike" in set_up


def tagged(notebook, tag):
    (cell,) = (cell for cell in notebook.cells if tag in cell.metadata.get("tags", []))
    return cell


def test_the_repository_is_read_from_gits_origin_if_that_is_on_github():
    ours = ["https://github.com/me/photos.git", "https://github.com/me/photos/"]
    ours += ["git@github.com:me/photos.git", "ssh://git@github.com/me/photos"]
    ours += ["https://me:ghp_token@github.com/me/photos.git"]
    assert [book.ORIGIN.fullmatch(origin)[1] for origin in ours] == ["me/photos"] * 5
    others = ["https://gitlab.com/me/photos.git", "/srv/photos.git", "../photos", ""]
    assert not any(map(book.ORIGIN.fullmatch, others))


@pytest.fixture
def copy(tmp_path):
    """A copy of the project with a history of its own, of what the book is made of."""
    folder = tmp_path / "copy"
    (folder / "notebooks").mkdir(parents=True)
    for name in ("README.md", "pyproject.toml", "notebooks/book.py", "notebooks/series.toml"):
        shutil.copyfile(PROJECT / name, folder / name)
    for number, path in enumerate(PATHS):
        nbformat.write(bound(number, ""), folder / "notebooks" / path.name)
    commit(folder)
    return folder


def make_book(folder):
    """What making the book says, and the address that its first notebook then has."""
    command = [sys.executable, "notebooks/book.py"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    notebook = nbformat.read(folder / "notebooks" / PATHS[0].name, 4)
    return made.stdout, book.known_address(notebook)


def test_in_a_clone_from_github_the_book_points_to_where_it_came_from(copy):
    git("remote", "add", "origin", "https://me:ghp_token@github.com/me/photos.git", cwd=copy)
    told, address = make_book(copy)
    assert "00_quickstart.ipynb" in told
    assert address == "https://github.com/me/photos/blob/main"
    assert not [path for path in copy.rglob("*.ipynb") if "ghp_token" in path.read_text("utf-8")]
    assert make_book(copy)[0].endswith("nothing\n")
    # The branch is the one that the origin shows first.
    git("update-ref", "refs/remotes/origin/master", "HEAD", cwd=copy)
    git("remote", "set-head", "origin", "master", cwd=copy)
    assert make_book(copy)[1] == "https://github.com/me/photos/blob/master"
    # What pyproject.toml names counts more.
    text = (copy / "pyproject.toml").read_text(encoding="utf-8")
    url = '[project.urls]\nRepository = "https://github.com/team/shop"\n\n[project.optional'
    (copy / "pyproject.toml").write_text(text.replace("[project.optional", url, 1))
    assert make_book(copy)[1] == "https://github.com/team/shop/blob/master"


def test_without_an_origin_on_github_it_says_so_and_changes_nothing(copy, tmp_path):
    told, address = make_book(copy)
    assert "No address: git's origin is not on GitHub" in told
    assert address == git("status", "--porcelain", cwd=copy) == ""
    # The repository of somebody else, around a copy, is not its origin.
    shutil.rmtree(copy / ".git")
    git("init", "--quiet", cwd=tmp_path)
    git("remote", "add", "origin", "https://github.com/somebody/work", cwd=tmp_path)
    assert make_book(copy)[1] == ""


def test_all_are_rendered_in_one_environment_and_small_together():
    notebooks = [nbformat.read(path, 4) for path in PATHS]
    assert len({str(notebook.metadata.language_info) for notebook in notebooks}) == 1
    assert len({notebook.metadata.lookalike.machine for notebook in notebooks}) == 1
    lines = "\n".join(map(text_of, notebooks)).splitlines()
    assert len({line for line in lines if "TensorFlow 2" in line and "Keras" in line}) == 1
    assert sum(path.stat().st_size for path in PATHS) < 8_000_000


@EACH
def test_the_cells_are_short_and_three_exercises_have_their_solutions_folded_away(path):
    notebook = nbformat.read(path, 4)
    for cell in code_of(notebook):
        assert sum(bool(line.strip()) for line in cell.source.splitlines()) <= 15
    text = markdown_of(notebook)
    exercises = text.split("## Try it")[1]
    assert re.findall(r"^\*\*(\d)\.\*\*", exercises, re.MULTILINE) == ["1", "2", "3"]
    solution = "<details><summary>Solution</summary>\n\n```python\n"
    assert exercises.count(solution) == exercises.count("\n</details>") == 3
    assert len(run.SOLUTION.findall(text)) == 3


def terms():
    """The glossary: each term with the notebook that it names."""
    cells = markdown_of(nbformat.read(book.NOTEBOOKS / "glossary.ipynb", 4)).split("### ")[1:]
    return {cell.splitlines()[0]: re.findall(r"\((\d\d_\w+)\.ipynb\)", cell)[-1] for cell in cells}


def test_a_term_stands_in_alphabetical_order_and_is_linked_where_it_first_matters():
    assert list(terms()) == sorted(terms())
    assert len(terms()) > 40
    texts = {path.stem: markdown_of(nbformat.read(path, 4)) for path in PATHS}
    for term, named in terms().items():
        link = f"](glossary.ipynb#{term.replace(' ', '-')})"
        assert next(name for name, text in texts.items() if link in text) == named, term


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web, "SITE", folder)
        patch.setattr(web, "ADDRESS", "https://github.com/somebody/photos/blob/main")
        web.main()
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_the_site_has_a_page_a_notebook_a_glossary_and_an_index(site):
    names = ["index", "glossary", *(path.stem for path in PATHS)]
    assert sorted(site) == sorted(f"{name}.html" for name in names)
    for entry in book.SERIES:
        page = site[f"{entry['file']}.html"]
        assert f"<title>{entry['question']}</title>" in page
        assert f'href="{entry["file"]}.html"' in site["index.html"]
        folded = r"(?s)<details>\s*<summary>Solution</summary>(.*?)</details>"
        solutions = re.findall(folded, page)
        assert ['<div class="highlight">' in solution for solution in solutions] == [True] * 3


def test_every_link_among_the_pages_leads_somewhere(site):
    for name, page in site.items():
        for target in re.findall(r'<a\s[^>]*href="([^"]+)"', page):
            if not target.startswith(("http", "mailto:")):
                other, _, anchor = target.partition("#")
                there = site.get(other or name, "")
                assert there, f"{name} leads to {target}"
                assert not anchor or f'id="{unquote(anchor)}"' in there, f"{name} leads to {target}"


def test_without_an_address_a_page_links_to_the_files_on_this_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "ADDRESS", "")
    target = web.leads_to(PROJECT / "models" / "README.md", tmp_path, ["index"])
    assert (tmp_path / target).samefile(PROJECT / "models" / "README.md")
    assert not target.startswith("/")


@pytest.mark.parametrize(
    "unwanted",
    [
        r"<script",
        r"<(?:img|link|iframe|source)\b[^>]*\b(?:src|href|srcset)=\"(?!data:)",
        r"url\([\"']?(?:https?:)?//|@import",
        r"<img(?![^>]*\balt=\"[^\"])",
    ],
    ids=["script", "other file", "other style", "picture without words"],
)
def test_no_page_has_what_it_should_not_need(site, unwanted):
    assert [name for name, page in site.items() if re.search(unwanted, page)] == []
