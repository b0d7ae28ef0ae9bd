"""What must hold of the repository as a whole."""

import ast
import hashlib
import subprocess

import pytest

from conftest import CLOTHING, MOBILENET, PROJECT

# Each module imports only those named before it.
ORDER = ("workspace", "images", "histograms", "edits", "folders", "downloads", "amazon", "kaggle_sets")
ORDER += ("sources", "splits", "catalog", "vgg16_slim", "pooling", "backbones", "stages", "fingerprints")
ORDER += ("saving", "views", "training", "engines", "exports", "stores", "embeddings", "gallery", "search")
ORDER += ("explanations", "similarity", "spark", "indexes", "faiss_indexes", "milvus", "scale", "looks")
ORDER += ("pairs", "alignment", "duplicates", "copies", "groups", "calibration", "rankings", "metrics")
ORDER += ("intervals", "evaluation", "variants", "studies", "parity", "plots", "charts", "copy_charts")
ORDER += ("scale_charts", "uploads", "service", "pages", "desk", "guard", "serving", "app")
MODULES = sorted((PROJECT / "src" / "lookalike").glob("[a-z]*.py"))


def test_every_module_has_its_place():
    assert {path.stem for path in MODULES} == set(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_modules_import_in_one_direction_and_stay_small(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lookalike."):
            imported = node.module.removeprefix("lookalike.")
            assert ORDER.index(imported) < ORDER.index(path.stem), f"{path.name} imports {imported}"
    assert len(path.read_text().splitlines()) <= 250


def committed_files():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [PROJECT / name for name in listed.stdout.split("\0") if name and (PROJECT / name).is_file()]


def test_no_leftover_is_committed():
    assert not [path for path in committed_files() if path.suffix in (".orig", ".rej", ".pyi")]


@pytest.mark.skipif(not CLOTHING.is_dir(), reason="the clothing photos are not beside the project")
def test_nothing_of_others_is_committed():
    theirs = {hashlib.sha256(path.read_bytes()).digest() for path in [*CLOTHING.rglob("*.jpg"), MOBILENET]}
    assert not [path for path in committed_files() if hashlib.sha256(path.read_bytes()).digest() in theirs]


def test_the_sample_is_small_and_lists_every_picture_it_has():
    folder = PROJECT / "data" / "sample"
    pictures = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*.jpg"))
    listed = [line.split(",")[0] for line in (folder / "catalog.csv").read_text().splitlines()[1:]]
    assert pictures == listed
    assert sum(path.stat().st_size for path in committed_files() if folder in path.parents) <= 8_000_000
