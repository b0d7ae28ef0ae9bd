"""What the project says holds: links lead somewhere, words are spelt, pictures have words, commands
exist.
"""

import itertools
import os
import re
import runpy
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import codespell_lib
import nbformat
import pytest
import yaml
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from packaging.requirements import Requirement
from spellchecker import SpellChecker

from conftest import PROJECT

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
FOLDERS = ("", ".github", "benchmarks", "data", "data/sample", "embeddings", "models", "notebooks")
PAGES = [path for folder in FOLDERS for path in sorted((PROJECT / folder).glob("*.md"))]
CODE = ("src", "tests", "benchmarks", "notebooks", "models", "data/sample", ".ci")
CALLERS = (".ci/run", ".github/workflows/ci.yml", ".pre-commit-config.yaml")

# Words that the dictionary does not have: terms of the field, names of things, and of people. Add
# those that you need.
TERMS = """
alikes avg Caltech checksums CIELAB Colab convolutional dataset docstrings dtype FAISS Gradio hnsw
ivfpq Jupyter Kaggle Keras keypoint keypoints litert Matplotlib metadata Milvus nDCG neighbourhoods
numpy onnx openvino overfitting PCA preprocessing quickstart recoloured recompressed resampled
resize resized params runtime scikit softmax screenshot SNE tensorflow Aggarwal Alexey Carbonell
der Douze Efron Goldstein Grigorev Hanley Holub Järvelin Jégou Kekäläinen Klasson Lippman Maaten
Belongie Lim Malkov Musgrave Param Perona Pless Radenović Rocchio Schmid Skia Srivastava
Stylianou Yashunin Zhai
"""
AMERICAN = ("generalized", "license", "program")  # the mean, a proper name, what a computer runs

each_text = pytest.mark.parametrize(
    "path", PAGES + NOTEBOOKS, ids=lambda path: str(path.relative_to(PROJECT))
)
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@cache
def markdown_of(path):
    """The text of a page, or of all text cells of a notebook."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    return "\n\n".join(
        cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"
    )


@cache
def blocks(path):
    return MarkdownIt("commonmark").enable("table").use(dollarmath_plugin).parse(markdown_of(path))


def inlines(path):
    """Words, code, links and pictures, in order."""
    return [child for block in blocks(path) for child in block.children or ()]


def html(path):
    return "".join(
        token.content for token in [*blocks(path), *inlines(path)] if token.type.startswith("html_")
    )


def headings(path):
    """The names that links can lead to: by GitHub's rule in a page, by Jupyter's in a notebook."""
    names, seen = set(), Counter()
    for opening, block in itertools.pairwise(blocks(path)):
        if opening.type == "heading_open":
            text = "".join(child.content for child in block.children)
            name = text if path.suffix == ".ipynb" else re.sub(r"[^\w\- ]", "", text.lower())
            name = name.replace(" ", "-")
            names.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += path.suffix == ".md"
    return names | set(re.findall(r"""\b(?:id|name)=["'](.*?)["']""", html(path)))


def links(path):
    attributes = [token.attrs.get("href") or token.attrs.get("src") for token in inlines(path)]
    return [link for link in attributes if link] + re.findall(
        r"""(?:href|src)=["'](.*?)["']""", html(path)
    )


def is_ignored(path):
    """Whether git leaves a file out; nothing is left out where there is no git."""
    command = ["git", "check-ignore", "--quiet", str(path)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True).returncode == 0


@each_text
def test_every_link_leads_to_a_file_of_the_project_and_to_a_heading_that_is_there(path):
    for link in links(path):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
        assert target.is_relative_to(PROJECT), f"{link} leads out of the project"
        assert target.exists() and not is_ignored(target), f"{link} leads nowhere"
        if parts.fragment:
            assert unquote(parts.fragment) in headings(target), (
                f"{link}: no such heading in {target.name}"
            )


@each_text
def test_every_picture_among_the_text_has_words_for_whoever_cannot_see_it(path):
    pictures = [token for token in inlines(path) if token.type == "image"]
    assert [token.attrs["src"] for token in pictures if not token.content.strip()] == []
    tags = re.findall(r"<img\b.*?>", html(path), re.DOTALL)
    assert [tag for tag in tags if not re.search(r"""\balt=["'][^"']""", tag)] == []


@each_notebook
def test_every_figure_has_words_for_whoever_cannot_see_it(path):
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    for number, cell in enumerate(cells, start=1):
        for output in cell.outputs:
            for kind in {"image/png", "image/jpeg"} & output.get("data", {}).keys():
                alt = output.metadata.get(kind, {}).get("alt", "")
                assert alt.strip(), f"the figure of code cell {number} has no alt text"


def codespell(*files):
    command = [
        sys.executable,
        "-m",
        "codespell_lib",
        "--toml",
        str(PROJECT / "pyproject.toml"),
        *map(str, files),
    ]
    process = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    return process.stdout + process.stderr


@each_text
def test_codespell_knows_no_misspelling_of_the_text(path, tmp_path):
    (tmp_path / f"{path.stem}.md").write_text(markdown_of(path), encoding="utf-8")
    assert codespell(tmp_path / f"{path.stem}.md") == ""


@pytest.mark.parametrize("folder", CODE)
def test_codespell_knows_no_misspelling_of_the_code(folder):
    files = (
        sorted((PROJECT / folder).rglob("*.py"))
        if folder in ("src", "tests")
        else (PROJECT / folder).glob("*.py")
    )
    assert codespell(*files) == ""


def test_codespell_finds_a_misspelling(tmp_path):
    (tmp_path / "page.md").write_text("It is a seperate photo.\n")  # codespell:ignore seperate
    assert "seperate ==> separate" in codespell(tmp_path / "page.md")  # codespell:ignore seperate


@cache
def spellings():
    """British spelling to the American ones."""
    file = Path(codespell_lib.__file__).parent / "data" / "dictionary_en-GB_to_en-US.txt"
    pairs = (line.split("->") for line in file.read_text(encoding="utf-8").splitlines())
    return {
        british: [word.strip() for word in american.split(",") if word.strip()]
        for british, american in pairs
    }


@cache
def dictionary():
    words = SpellChecker(language="en").word_frequency.dictionary.keys()
    return words | spellings().keys() | set(TERMS.lower().split())


def words_of(path):
    """The words of its prose; not code, addresses, numbers, nor names in capitals or with capitals
    inside.
    """
    prose = [token.content for token in inlines(path) if token.type in ("text", "image")]
    prose = "\n".join([*prose, re.sub(r"<.*?>", " ", html(path), flags=re.DOTALL)])
    found = re.findall(r"\w+(?:['’]\w+)*", re.sub(r"\S*\w[.:/]+\w\S*", " ", prose))
    plain = {re.sub(r"['’](?:s|t|re|ve|ll|d)$", "", word) for word in found}
    return {word for word in plain if len(word) > 2 and word.isalpha() and word[1:].islower()}


@each_text
def test_every_word_is_in_a_dictionary_or_a_term_of_the_field(path):
    assert sorted(word for word in words_of(path) if word.lower() not in dictionary()) == []


@each_text
def test_the_spelling_is_british(path):
    american = {
        word: british
        for british, words in spellings().items()
        for word in words
        if word not in AMERICAN
    }
    assert {
        word: american[word.lower()] for word in words_of(path) if word.lower() in american
    } == {}


def test_the_dictionary_misses_what_is_misspelt_or_american():
    misspelt = "recomendation lenght nearset catalouge seperate"  # codespell:ignore
    assert not dictionary() & set(misspelt.split())
    assert {"neighbour", "catalogue", "colour", "similarity"} <= dictionary()


def targets():
    return set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))


def calls(text):
    return re.findall(r"\bmake ([a-z][a-z-]*)", text)


@pytest.mark.parametrize("name", CALLERS)
def test_what_checks_the_project_calls_only_what_the_makefile_has(name):
    text = (PROJECT / name).read_text(encoding="utf-8")
    assert set(calls(text)) <= targets()
    assert calls(text) or ".ci/run" in text


@each_text
def test_every_make_command_in_the_text_is_one_that_the_makefile_has(path):
    code = [
        token.content
        for token in [*blocks(path), *inlines(path)]
        if token.type in ("code_inline", "fence")
    ]
    assert {name for text in code for name in calls(text)} <= targets()


def test_the_workflow_runs_what_every_machine_runs_and_may_only_read():
    workflow = yaml.safe_load(
        (PROJECT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    )
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML takes "on" for true
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands == [".ci/run"]
    assert os.access(PROJECT / ".ci" / "run", os.X_OK)
    paths = next(
        step["with"]["cache-dependency-path"]
        for step in job["steps"]
        if "setup-python" in step["uses"]
    )
    assert all((PROJECT / name).is_file() for name in paths.split())


def test_the_hooks_call_make_and_name_tests_that_are_there():
    hooks = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))[
        "repos"
    ][0]["hooks"]
    assert [hook["entry"].split()[:2] for hook in hooks] == [["make", "lint"], ["make", "test"]]
    named = re.findall(r"tests/\w+\.py", " ".join(hook["entry"] for hook in hooks))
    assert named and all((PROJECT / name).is_file() for name in named)


def test_the_ranges_are_met_by_what_colab_has_and_by_what_is_tested():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML by itself")
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    lines = [
        line
        for line in (PROJECT / "requirements.txt").read_text().splitlines()
        if line and line[0] != "#"
    ]
    asked = [
        Requirement(line) for line in [*lines, *extras["app"], *extras["export"], *extras["scale"]]
    ]
    exact = runpy.run_path(str(PROJECT / ".ci" / "colab.py"))["exact"]
    for name in ("constraints.txt", "constraints-colab.txt"):
        versions = exact((PROJECT / name).read_text())
        for one in asked:
            if not one.marker or one.marker.evaluate({"python_version": "3.13"}):
                assert versions.get(one.name, "") in one.specifier or one.name not in versions, (
                    f"{one} in {name}"
                )


def test_a_version_that_is_not_colabs_is_told():
    differences = runpy.run_path(str(PROJECT / ".ci" / "colab.py"))["differences"]
    colab = {"numpy": "2.1.3", "keras": "3.13.2", "gradio": "6.24.0"}
    assert (
        differences(colab, {"numpy": "2.1.3", "keras": "3.13.2"}, ["numpy", "keras", "scipy"]) == []
    )
    assert differences(colab, {"numpy": "2.4.6"}, ["numpy", "keras"]) == [
        "numpy is 2.4.6, on Colab 2.1.3",
        "keras is not installed",
    ]
