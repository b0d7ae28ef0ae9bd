"""Every notebook: its committed form, a quick run on a few photos, and what the runner does when something is wrong."""

import json
import os
import re
import subprocess
import sys

import nbformat
import pandas as pd
import papermill
import pytest

from conftest import PROJECT, write_photo
from lookalike.catalog import read_catalog

RUNNER = PROJECT / "notebooks" / "run.py"
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
MACHINE_PATH = re.compile(r"/(?:home|root|tmp|work|Users|content)/[\w.-]+")


def run(*arguments, cwd=PROJECT, env=None):
    command = [sys.executable, str(RUNNER), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two kinds of photos, told apart by nothing in particular, and one broken file."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(16):
        write_photo(folder / ("cup" if number % 2 else "plate") / f"{number:02}.png", number)
    (folder / "cup" / "broken.jpg").write_text("not a photo")
    return folder


def outputs_of(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebook_is_rendered_whole_and_tells_nothing_of_the_machine(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert "widgets" not in notebook.metadata
    assert "papermill" not in notebook.metadata
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert all(len(cell.source.splitlines()) <= 12 for cell in code)
    for output in outputs_of(notebook):
        assert output.output_type != "error"
        assert output.get("name") != "stderr"
        text = json.dumps({kind: data for kind, data in output.get("data", {}).items() if "image" not in kind})
        assert not MACHINE_PATH.search(text + output.get("text", ""))
    assert path.stat().st_size < 1_500_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("labelled", [True, False], ids=["by label", "flat"])
def test_notebook_runs_on_a_folder_of_ones_own(path, labelled, photos, tmp_path):
    folder = photos if labelled else photos / "cup"
    (tmp_path / "home").mkdir()
    settings = {"source": "folder", "path": folder, "backbone": "VGG16Slim", "top_n": 3, "root": tmp_path / "home"}
    declared = papermill.inspect_notebook(str(path)).keys()
    arguments = [word for name in settings.keys() & declared for word in ("--set", f"{name}={settings[name]}")]
    process = run(path.stem, *arguments, "--output", tmp_path / "build")
    assert process.returncode == 0, process.stdout + process.stderr
    assert re.search(rf"\[1/1\] {path.stem} \d+ s", process.stdout)
    notebook = nbformat.read(tmp_path / "build" / path.name, 4)
    assert not [output for output in outputs_of(notebook) if output.get("name") == "stderr"]
    assert "<html" in (tmp_path / "build" / f"{path.stem}.html").read_text()
    if path.stem == "00_quickstart":
        table = pd.read_csv(next((tmp_path / "home" / "embeddings").glob("*/recommendations.csv")))
        count = 16 if labelled else 8
        assert len(table) == 3 * count
        assert (table["image_id"] != table["recommended_image_id"]).all()
        text = "".join(output.get("text", "") for output in outputs_of(notebook))
        assert "1 files set aside" in text
        assert ("Precision@10 is" in text) == labelled

    if path.stem == "01_data":
        folder = next((tmp_path / "home" / "data" / "catalogs").iterdir())
        catalog = read_catalog(folder / "catalog.csv")
        assert len(catalog) == (16 if labelled else 8)
        assert set(catalog["split"]) == {"train", "validation", "test"}
        assert pd.read_csv(folder / "rejected.csv")["image_id"].str.endswith("broken.jpg").tolist() == [True]
        assert pd.read_csv(folder / "copies.csv").empty
        assert "6 of 6 planted faults were noticed" in "".join(
            output.get("text", "") for output in outputs_of(notebook)
        )


def test_the_data_notebook_reports_copies_and_small_images_and_keeps_copies_on_one_side(tmp_path):
    for number in range(20):
        write_photo(tmp_path / "photos" / "train" / "plate" / f"{number:02}.png", number)
        write_photo(tmp_path / "photos" / "test" / "cup" / f"{number:02}.png", 100 + number)
    write_photo(tmp_path / "photos" / "test" / "cup" / "copy.png", 3)
    write_photo(tmp_path / "photos" / "test" / "cup" / "dot.png", 5, size=10)
    settings = (f"path={tmp_path / 'photos'}", "backbone=VGG16Slim", f"root={tmp_path}", "min_side=20")
    process = run("01", *(word for setting in settings for word in ("--set", setting)), "--output", tmp_path / "build")
    assert process.returncode == 0, process.stdout + process.stderr
    folder = next((tmp_path / "data" / "catalogs").iterdir())
    copies = pd.read_csv(folder / "copies.csv")
    assert copies[["image_id", "other_id", "step", "labels_differ"]].to_numpy().tolist() == [
        ["test/cup/copy.png", "train/plate/03.png", "content", True]
    ]
    split = read_catalog(folder / "catalog.csv").set_index("image_id")["split"]
    assert split["test/cup/copy.png"] == "train"
    assert split.value_counts().to_dict() == {"train": 21, "test": 20}
    rejected = pd.read_csv(folder / "rejected.csv")
    assert rejected.to_numpy().tolist() == [["test/cup/dot.png", "smaller than 20 pixels"]]


@pytest.mark.parametrize("count", [1, 2])
def test_quickstart_runs_on_next_to_nothing(count, tmp_path):
    for number in range(count):
        write_photo(tmp_path / "a few $ photos" / f"cup {number}" / "a.png", number)
    settings = (f"path={tmp_path / 'a few $ photos'}", "backbone=VGG16Slim", "metric=euclidean", f"root={tmp_path}")
    process = run("00", *(word for setting in settings for word in ("--set", setting)), "--output", tmp_path / "build")
    assert process.returncode == 0, process.stdout + process.stderr
    notebook = nbformat.read(tmp_path / "build" / "00_quickstart.ipynb", 4)
    assert not [output for output in outputs_of(notebook) if output.get("name") == "stderr"]


def test_make_passes_paths_with_spaces_and_types(tmp_path):
    arguments = ["make", "-n", "run", "DATA=my photos", "ALPHA=0.35"]
    process = subprocess.run(arguments, capture_output=True, text=True, cwd=PROJECT, env=os.environ | {"SOURCE": "zip"})
    assert "'path=my photos'" in process.stdout
    assert "'source='" in process.stdout  # a variable of the environment is not meant for us
    assert "top_n is a number, not 'many'" in run("00", "--set", "top_n=many").stderr


def test_a_parameter_that_no_cell_declares_is_an_error_before_anything_runs(tmp_path):
    process = run("00", "--set", "sorce=folder", "--output", tmp_path)
    assert process.returncode != 0
    assert "no parameter 'sorce'" in process.stderr
    assert "source" in process.stderr
    assert not list(tmp_path.iterdir())


def test_a_failing_cell_fails_the_run_with_its_error(tmp_path):
    process = run(
        "00", "--set", "source=folder", "--set", f"path={tmp_path / 'nowhere'}", "--output", tmp_path / "build"
    )
    assert process.returncode != 0
    assert "load_catalog" in process.stderr
    assert re.search(r"FileNotFoundError: No folder at .*nowhere", process.stderr)


def test_an_unknown_notebook_and_a_setting_without_a_value_are_refused():
    assert "No notebook starts with '99'" in run("99").stderr
    assert "name=value" in run("00", "--set", "source").stderr


def test_defaults_of_every_notebook_are_declared():
    for path in NOTEBOOKS:
        declared = papermill.inspect_notebook(str(path))
        assert {"source", "path", "backbone", "seed"} <= declared.keys()
        assert declared["source"]["default"] == '"auto"'
