"""The series as one book: what is generated, what every notebook has, its pages for a browser."""

import os
import re
import shutil
import subprocess
import sys
from urllib.parse import unquote

import nbformat
import pytest
import yaml

from conftest import PROJECT

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


def test_an_address_goes_into_badge_and_set_up_of_every_notebook():
    address = "https://github.com/somebody/photos/blob/master"
    for number, path in enumerate(PATHS):
        notebook = nbformat.read(path, 4)
        assert book.bind(number, notebook, address)
        title, set_up = tagged(notebook, "book-title"), tagged(notebook, "book-set-up")
        assert f"github/somebody/photos/blob/master/notebooks/{path.name})" in title
        assert (
            "git clone --quiet --depth 1 https://github.com/somebody/photos lookalike\n" in set_up
        )
        assert book.known_address(notebook) == address
        assert not book.bind(number, notebook)  # without one it stays as it is


def tagged(notebook, tag):
    return next(cell.source for cell in notebook.cells if tag in cell.metadata.get("tags", []))


@pytest.mark.parametrize("address", ["https://github.com/somebody/photos/blob/main", ""])
def test_the_set_up_cell_is_short_hidden_on_pages_and_the_same_in_all_notebooks(address):
    cells = set()
    for number, path in enumerate(PATHS):
        notebook = nbformat.read(path, 4)
        book.bind(number, notebook, address)
        cells.add(tagged(notebook, "book-set-up"))
        (cell,) = (
            cell for cell in notebook.cells if "book-set-up" in cell.metadata.get("tags", [])
        )
        assert "hide-input" in cell.metadata.tags
    (set_up,) = cells
    assert len([line for line in set_up.splitlines() if line.strip()]) <= 14


def test_all_notebooks_have_one_address_or_none():
    assert len({book.known_address(nbformat.read(path, 4)) for path in PATHS}) == 1


def git(*arguments, cwd):
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    me = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")
    command = ["git", *me, *arguments]
    return subprocess.run(
        command, cwd=cwd, check=True, capture_output=True, text=True, env=os.environ | alone
    ).stdout


@pytest.fixture
def copy(tmp_path):
    """A copy of the project with a history of its own, of what the book is made of."""
    folder = tmp_path / "copy"
    (folder / "notebooks").mkdir(parents=True)
    for name in ("README.md", "pyproject.toml", "notebooks/book.py", "notebooks/series.toml"):
        shutil.copyfile(PROJECT / name, folder / name)
    for number, path in enumerate(PATHS):
        notebook = nbformat.read(path, 4)
        for cell in notebook.cells:  # as if nobody had ever known an address
            cell.source = book.BOUND.sub("", cell.source)
        book.bind(number, notebook)
        nbformat.write(notebook, folder / "notebooks" / path.name)
    git("init", "--quiet", "--initial-branch", "main", cwd=folder)
    git("add", "--all", cwd=folder)
    git("commit", "--quiet", "--message", "A copy", cwd=folder)
    return folder


def make_book(folder):
    command = [sys.executable, "notebooks/book.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "origin",
    [
        "https://github.com/somebody/photos.git",
        "https://github.com/somebody/photos/",
        "git@github.com:somebody/photos.git",
        "ssh://git@github.com/somebody/photos",
        "https://somebody:ghp_token@github.com/somebody/photos.git",
    ],
)
def test_in_a_clone_from_github_the_book_points_to_where_it_came_from(copy, origin):
    git("remote", "add", "origin", origin, cwd=copy)
    assert "00_quickstart.ipynb" in make_book(copy)
    for path in sorted((copy / "notebooks").glob("[0-9]*.ipynb")):
        notebook = nbformat.read(path, 4)
        assert book.known_address(notebook) == "https://github.com/somebody/photos/blob/main"
        assert f"github/somebody/photos/blob/main/notebooks/{path.name}" in notebook.cells[0].source
        assert "ghp_token" not in path.read_text(encoding="utf-8")
    assert make_book(copy).endswith("nothing\n")


@pytest.mark.parametrize(
    "origin", ["/srv/photos.git", "../photos", "https://gitlab.com/somebody/photos.git", None]
)
def test_with_another_origin_or_none_it_says_so_and_changes_nothing(copy, origin):
    if origin:
        git("remote", "add", "origin", origin, cwd=copy)
    told = make_book(copy)
    assert "No address: git's origin is not on GitHub" in told
    assert git("status", "--porcelain", cwd=copy) == ""


def test_the_branch_is_the_one_that_the_origin_shows_first(copy):
    git("remote", "add", "origin", "https://github.com/somebody/photos", cwd=copy)
    git("update-ref", "refs/remotes/origin/master", "HEAD", cwd=copy)
    git("remote", "set-head", "origin", "master", cwd=copy)
    make_book(copy)
    notebook = nbformat.read(copy / "notebooks" / PATHS[0].name, 4)
    assert book.known_address(notebook) == "https://github.com/somebody/photos/blob/master"


def test_the_repository_of_somebody_else_around_a_copy_is_not_its_origin(copy, tmp_path):
    shutil.rmtree(copy / ".git")
    git("init", "--quiet", cwd=tmp_path)
    git("remote", "add", "origin", "https://github.com/somebody/work", cwd=tmp_path)
    assert "No address" in make_book(copy)


def test_an_address_in_pyproject_counts_more_than_the_origin(copy):
    git("remote", "add", "origin", "https://github.com/somebody/photos", cwd=copy)
    text = (copy / "pyproject.toml").read_text(encoding="utf-8")
    url = '[project.urls]\nRepository = "https://github.com/team/shop"\n\n[project.optional'
    (copy / "pyproject.toml").write_text(text.replace("[project.optional", url, 1))
    make_book(copy)
    notebook = nbformat.read(copy / "notebooks" / PATHS[0].name, 4)
    assert book.known_address(notebook) == "https://github.com/team/shop/blob/main"


def test_the_workflow_commits_the_address_of_any_copy_once(copy, tmp_path, monkeypatch):
    workflow = yaml.safe_load((PROJECT / ".github/workflows/address.yml").read_text())
    (job,) = workflow["jobs"].values()
    *_, script = [step["run"] for step in job["steps"] if "run" in step]
    bare = tmp_path / "github" / "somebody" / "photos.git"
    git("clone", "--quiet", "--bare", str(copy), str(bare), cwd=tmp_path)
    git("remote", "add", "origin", "https://github.com/somebody/photos", cwd=copy)
    values = {"COUNT": "1", "KEY_0": f"url.{bare.as_uri()}.pushInsteadOf"}
    for name, value in (values | {"VALUE_0": "https://github.com/somebody/photos"}).items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    git("update-ref", "refs/remotes/origin/main", "HEAD", cwd=copy)
    monkeypatch.setenv("BRANCH", "main")
    git("config", "branch.main.remote", "origin", cwd=copy)
    git("config", "branch.main.merge", "refs/heads/main", cwd=copy)
    python = f"python() {{ '{sys.executable}' \"$@\"; }}\n"
    for _ in range(2):
        subprocess.run(["bash", "-e", "-c", python + script], cwd=copy, check=True)
    assert len(git("log", "--format=%s", "main", cwd=bare).splitlines()) == 2
    assert git("status", "--porcelain", cwd=copy) == ""


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
        patch.setattr(web, "ADDRESS", "https://github.com/somebody/photos/blob/main")
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


def test_without_an_address_a_page_links_to_the_files_on_this_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "ADDRESS", "")
    target = web.leads_to(PROJECT / "models" / "README.md", tmp_path, ["index"])
    assert (tmp_path / target).samefile(PROJECT / "models" / "README.md")
    assert not target.startswith("/")


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
