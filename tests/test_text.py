"""What the project says holds: links lead somewhere, words are spelt, commands exist."""

import itertools
import os
import re
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import codespell_lib
import nbformat
import pytest
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from spellchecker import SpellChecker

from conftest import PROJECT

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
FOLDERS = ("", ".github", "benchmarks", "data", "data/sample", "embeddings", "models", "notebooks")
PAGES = [path for folder in FOLDERS for path in sorted((PROJECT / folder).glob("*.md"))]
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


@cache
def markdown_of(path):
    """The text of a page, or of all text cells of a notebook."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, 4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


@cache
def blocks(path):
    return MarkdownIt("commonmark").enable("table").use(dollarmath_plugin).parse(markdown_of(path))


def inlines(path):
    """Words, code, links and pictures, in order."""
    return [child for block in blocks(path) for child in block.children or ()]


def html(path):
    tokens = [*blocks(path), *inlines(path)]
    return "".join(token.content for token in tokens if token.type.startswith("html_"))


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
    written = [token.attrs.get("href") or token.attrs.get("src") for token in inlines(path)]
    return [*filter(None, written), *re.findall(r"""(?:href|src)=["'](.*?)["']""", html(path))]


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
            assert unquote(parts.fragment) in headings(target), f"{link}: no such heading"


@each_text
def test_every_picture_has_words_for_whoever_cannot_see_it(path):
    pictures = [token for token in inlines(path) if token.type == "image"]
    assert [token.attrs["src"] for token in pictures if not token.content.strip()] == []
    tags = re.findall(r"<img\b.*?>", html(path), re.DOTALL)
    assert [tag for tag in tags if not re.search(r"""\balt=["'][^"']""", tag)] == []
    cells = nbformat.read(path, 4).cells if path.suffix == ".ipynb" else ()
    for output in (output for cell in cells for output in cell.get("outputs", ())):
        for kind in {"image/png", "image/jpeg"} & output.get("data", {}).keys():
            assert output.metadata.get(kind, {}).get("alt", "").strip()


@cache
def dictionary():
    """The words that may be used: British spelling alone, where the two differ."""
    file = Path(codespell_lib.__file__).parent / "data" / "dictionary_en-GB_to_en-US.txt"
    pairs = [line.split("->") for line in file.read_text(encoding="utf-8").splitlines()]
    british = {pair[0] for pair in pairs}
    american = {word.strip() for pair in pairs for word in pair[1].split(",")} - {*AMERICAN}
    words = SpellChecker(language="en").word_frequency.dictionary.keys()
    return (words - american) | british | set(TERMS.lower().split())


def words_of(path):
    """The words of its prose; not code, addresses, numbers, nor names with capitals inside."""
    prose = [token.content for token in inlines(path) if token.type in ("text", "image")]
    prose = "\n".join([*prose, re.sub(r"<.*?>", " ", html(path), flags=re.DOTALL)])
    found = re.findall(r"\w+(?:['’]\w+)*", re.sub(r"\S*\w[.:/]+\w\S*", " ", prose))
    plain = {re.sub(r"['’](?:s|t|re|ve|ll|d)$", "", word) for word in found}
    return {word for word in plain if len(word) > 2 and word.isalpha() and word[1:].islower()}


@each_text
def test_every_word_is_in_the_dictionary_or_a_term_of_the_field(path):
    assert sorted(word for word in words_of(path) if word.lower() not in dictionary()) == []


def test_the_dictionary_misses_what_is_misspelt_or_american():
    wrong = "recomendation lenght nearset catalouge seperate color catalog"  # codespell:ignore
    assert not dictionary() & set(wrong.split())
    assert {"neighbour", "catalogue", "colour", "similarity"} <= dictionary()


DATED = r"(?i)\b(recently|currently|nowadays|at the time of writing|new in|as of 20\d\d)\b"


@each_text
def test_no_sentence_is_true_for_a_while_alone(path):
    prose = " ".join(" ".join(block.content.split()) for block in blocks(path) if block.children)
    assert re.findall(DATED, prose) == []


def calls(text):
    return set(re.findall(r"\bmake ([a-z][a-z-]*)", text))


def test_every_make_command_is_one_that_the_makefile_has():
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for name in CALLERS:
        text = (PROJECT / name).read_text(encoding="utf-8")
        assert calls(text) <= targets
        assert calls(text) or ".ci/run" in text
    for path in PAGES + NOTEBOOKS:
        tokens = [*blocks(path), *inlines(path)]
        code = [token.content for token in tokens if token.type in ("code_inline", "fence")]
        assert calls("\n".join(code)) <= targets, path.name
