"""Every notebook as Colab runs it: an empty machine, the project fetched from GitHub, photos and
results on Drive.
"""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import papermill
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from conftest import PROJECT, skip_without_engines, write_colab, write_photo

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
WHERE = "import sys, lookalike; print(lookalike.__file__); print(sys.executable)"


def git(*arguments, cwd):
    # Not by the habits of whoever runs the tests: no hooks, no signing.
    alone = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    process = subprocess.run(
        ["git", *arguments], cwd=cwd, capture_output=True, text=True, env=alone
    )
    if process.returncode and arguments[0] == "ls-files":
        pytest.skip("not a git checkout")
    assert process.returncode == 0, process.stderr
    return process.stdout


def project(folder):
    """The project as it is now, whether committed or not, in a folder."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=PROJECT)
    for name in listed.split("\0"):
        if name and (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def github(tmp_path_factory):
    """A folder that stands for github.com: in it a copy of the project that knows its address."""
    folder = tmp_path_factory.mktemp("github")
    repository = project(folder / "somebody" / "lookalike")
    git("init", "--quiet", cwd=repository)
    git("remote", "add", "origin", "https://github.com/somebody/lookalike.git", cwd=repository)
    subprocess.run([sys.executable, "notebooks/book.py"], cwd=repository, check=True)
    git("add", "--all", "--force", cwd=repository)
    author = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")
    git(*author, "commit", "--quiet", "--message", "As it is now", cwd=repository)
    return folder


@pytest.fixture
def colab(github, tmp_path, monkeypatch):
    """Where the notebook runs: an empty folder, as /content is, and a Drive with a zip that is not
    mounted yet.
    """
    standin = write_colab(tmp_path / "standin")
    # Colab's kernel has imported it at the start.
    (standin / "sitecustomize.py").write_text("import google.colab\n")
    monkeypatch.setenv("PYTHONPATH", str(standin))
    for name, value in {
        "COUNT": "1",
        "KEY_0": f"url.{github.as_uri()}/.insteadOf",
        "VALUE_0": "https://github.com/",
    }.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # what is not installed already cannot be had
    monkeypatch.delenv("LOOKALIKE_HOME", raising=False)
    drive = tmp_path / "drive of somebody"
    (drive / "lookalike").mkdir(parents=True)
    with (
        zipfile.ZipFile(drive / "Colors_Products.zip", "w") as archive,
        zipfile.ZipFile(drive / "flat.zip", "w") as flat,
    ):
        for number in range(24):
            photo = write_photo(tmp_path / "photos" / f"photo-{number:02}.png", number)
            archive.write(photo, f"Colors_Products/{'cup' if number % 2 else 'plate'}/{photo.name}")
            flat.write(photo, photo.name)
    monkeypatch.setenv("LOOKALIKE_TEST_DRIVE", str(drive))
    (tmp_path / "content").mkdir()
    return tmp_path / "content"


def photos_in(folder):
    return sorted(path.name for path in folder.rglob("photo-*.png"))


WAYS = {
    "the quickstart alone": NOTEBOOKS[:1],
    "the series, each on a new machine": NOTEBOOKS[1:9],
    "with further engines, on photos without labels": [
        NOTEBOOKS[1],
        NOTEBOOKS[4],
        *NOTEBOOKS[9:11],
    ],
}


def ways():
    return [
        pytest.param(paths, id=way, marks=pytest.mark.soak if paths[1:] else ())
        for way, paths in WAYS.items()
    ]


@pytest.mark.parametrize("paths", ways())
def test_notebooks_run_on_colab_with_their_photos_and_results_on_drive(paths, colab, github):
    for path in paths:
        skip_without_engines(path.stem)
    for path in paths:
        check_on_colab(
            github / "somebody/lookalike/notebooks" / path.name,
            colab,
            "flat.zip" if NOTEBOOKS[10] in paths else "Colors_Products.zip",
        )
        # The machine is recycled; what is on Drive stays.
        os.rename(colab / "drive" / "MyDrive", os.environ["LOOKALIKE_TEST_DRIVE"])
        shutil.rmtree(colab)
        colab.mkdir()


def check_on_colab(path, colab, photos):
    drive = colab / "drive" / "MyDrive"
    settings = {"source": "zip", "path": drive / photos, "root": drive / "lookalike"}
    settings |= {"backbone": "VGG16Slim", "largest": 2000}
    declared = papermill.inspect_notebook(str(path)).keys()
    notebook = nbformat.read(path, 4)
    notebook.cells.append(nbformat.v4.new_code_cell(WHERE))
    nbformat.write(notebook, colab.parent / path.name)
    papermill.execute_notebook(
        str(colab.parent / path.name),
        str(colab.parent / "executed.ipynb"),
        {
            name: value if name == "largest" else str(value)
            for name, value in settings.items()
            if name in declared
        },
        kernel_name="python3",
        progress_bar=False,
        cwd=str(colab),
        extra_arguments=["--IPKernelApp.log_level=50"],
    )

    code = [
        cell
        for cell in nbformat.read(colab.parent / "executed.ipynb", 4).cells
        if cell.cell_type == "code"
    ]
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    fetched = "".join(output.get("text", "") for output in code[0].outputs)
    # A failing %pip does not stop a notebook.
    assert not re.search("error|fatal", fetched, re.IGNORECASE)
    text = "".join(output.get("text", "") for output in outputs)
    assert f"Mounted at {drive.parent}" in text
    assert "Colab, " in text
    clone = colab / "lookalike"
    assert code[-1].outputs[0].text.splitlines() == [
        str(clone / "src" / "lookalike" / "__init__.py"),
        sys.executable,
    ]

    # What was made is on Drive; the photos, which Drive would be slow to take one by one, are
    # beside the project.
    names = [f"photo-{number:02}.png" for number in range(24)]
    assert [file for file in (drive / "lookalike").rglob("*") if file.is_file()]
    assert photos_in(drive) == []
    assert photos_in(clone / "data") == photos_in(colab) == names
    left = git(
        "status", "--porcelain", "--ignored", "--untracked-files=all", cwd=clone
    ).splitlines()
    assert {line[3:].split("/")[0] for line in left if "__pycache__" not in line} == {"data"}
    assert sorted(entry.name for entry in colab.iterdir()) == ["drive", "lookalike"]


def set_up(path, colab, *, addressed):
    """Run a notebook's set-up cell alone; the error if there is one, else where the package is."""
    notebook = nbformat.read(path, 4)
    cell = next(cell for cell in notebook.cells if "book-set-up" in cell.metadata.get("tags", []))
    assert ("git clone" in cell.source) == addressed
    cells = [nbformat.v4.new_code_cell(source) for source in (cell.source, WHERE)]
    alone = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(
        alone, kernel_name="python3", resources={"metadata": {"path": str(colab)}}
    )
    try:
        client.execute()
    except CellExecutionError as error:
        return error.evalue
    return Path(alone.cells[-1].outputs[0].text.splitlines()[0]).relative_to(colab).as_posix()


def without_address(folder):
    """A copy of the project whose notebooks know no address."""
    sys.path.insert(0, str(PROJECT / "notebooks"))
    import book

    project(folder)
    for number, path in enumerate(NOTEBOOKS):
        notebook = nbformat.read(path, 4)
        for cell in notebook.cells:
            cell.source = book.BOUND.sub("", cell.source)
        book.bind(number, notebook)
        nbformat.write(notebook, folder / "notebooks" / path.name)
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return without_address(tmp_path_factory.mktemp("plain") / "lookalike-main")


SOURCE = "src/lookalike/__init__.py"
UNZIPPED = f"lookalike/lookalike-main/{SOURCE}"
SENTENCE = "Upload lookalike's zip, or put it on Drive."
PLACES = {
    "cloned from its address": f"lookalike/{SOURCE}",
    "a zip on Drive": UNZIPPED,
    "a zip on Drive, as the address is closed": UNZIPPED,
    "a folder on Drive": f"drive/MyDrive/Lookalike-main/{SOURCE}",
    "an uploaded zip": UNZIPPED,
    "none": SENTENCE,
}


# The cell is the same in all notebooks: tests/notebooks/test_book.py.
@pytest.mark.parametrize("place", PLACES)
def test_the_set_up_cell_finds_the_project(place, colab, github, plain, monkeypatch):
    drive = Path(os.environ["LOOKALIKE_TEST_DRIVE"])
    (colab / "lookalike-photos").mkdir()  # somebody's own
    if place == "a folder on Drive":
        shutil.copytree(plain, drive / "Lookalike-main")
    elif "zip" in place:
        to = colab / "lookalike (1)" if "uploaded" in place else drive / "lookalike-main"
        shutil.make_archive(str(to), "zip", plain.parent, plain.name)
    if "closed" in place:
        monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{github.as_uri()}/nothing/.insteadOf")
        monkeypatch.setenv("GIT_TERMINAL_PROMPT", "0")
    addressed = place == "cloned from its address" or "closed" in place
    folder = github / "somebody/lookalike" if addressed else plain
    for _ in range(2 if place == "a zip on Drive" else 1):  # and again, after a restart
        found = set_up(folder / "notebooks" / NOTEBOOKS[0].name, colab, addressed=addressed)
        assert found == PLACES[place]
    asked = place not in ("cloned from its address", "an uploaded zip")
    assert (colab / "drive").exists() == asked


@pytest.mark.soak
def test_the_encoder_is_exported_under_the_python_that_colab_has(tmp_path):
    """Where OpenVINO cannot convert a function of TensorFlow, but a SavedModel."""
    skip_without_engines("09_export")
    python = shutil.which("python3.13")
    if not python or subprocess.run([python, "--version"], capture_output=True).returncode:
        pytest.skip("there is no Python 3.13")
    folder = project(tmp_path / "lookalike")
    own = tmp_path / "environment" / "bin" / "python"
    subprocess.run([python, "-m", "venv", tmp_path / "environment"], check=True)
    install = [own, "-m", "pip", "install", "--quiet", "-c", folder / "constraints-colab.txt"]
    needed = ["ipykernel", "nbconvert", "nbformat", "papermill"]
    subprocess.run([*install, f"{folder}[export]", *needed], check=True)
    command = [own, "notebooks/run.py", "--set", "source=sample", "--set", "backbone=VGG16Slim"]
    command += ["--output", tmp_path, "01", "04", "09"]
    subprocess.run(command, cwd=folder, check=True)
    cells = nbformat.read(tmp_path / "09_export.ipynb", 4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    text = "".join(output.get("text", "") for output in outputs)
    assert "Python 3.13" in text
    assert re.search(r"openvino: .* vectors, cosine to Keras at least (0\.9999|1\.0000)", text)
    assert "left out" not in text
