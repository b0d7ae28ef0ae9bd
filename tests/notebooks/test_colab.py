"""Every notebook as on Colab: an empty machine, the project from GitHub, photos on Drive."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import book
import nbformat
import papermill
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from conftest import PROJECT, skip_without_engines, write_colab, write_photo

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
WHERE = "import sys, lookalike; print(lookalike.__file__); print(sys.executable)"
PACKAGE = "src/lookalike/__init__.py"


def git(*arguments, cwd):
    # Not by the habits of whoever runs the tests: no hooks, no signing.
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command = ["git", "-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", *arguments]
    given = {"capture_output": True, "text": True, "check": True, "env": os.environ | alone}
    return subprocess.run(command, cwd=cwd, **given).stdout


def commit(repository):
    git("init", "--quiet", "--initial-branch", "main", cwd=repository)
    git("add", "--all", "--force", cwd=repository)
    git("commit", "--quiet", "--message", "As it is now", cwd=repository)


def project(folder):
    """The project as it is now, whether committed or not, in a folder."""
    if not (PROJECT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=PROJECT)
    for name in listed.split("\0"):
        if name and (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, folder / name)
    return folder


def bound(number, address):
    """A notebook that knows an address, or none."""
    notebook = nbformat.read(NOTEBOOKS[number], 4)
    for cell in notebook.cells:
        cell.source = book.BOUND.sub("", cell.source)
    book.bind(number, notebook, address)
    return notebook


@pytest.fixture(scope="module")
def github(tmp_path_factory):
    """A folder that stands for github.com, with the project in it, and one of a few lines."""
    folder = tmp_path_factory.mktemp("github")
    commit(project(folder / "somebody" / "lookalike"))
    small(folder / "somebody" / "small")
    commit(folder / "somebody" / "small")
    return folder


def small(folder):
    """What the set-up cell needs of the project."""
    (folder / PACKAGE).parent.mkdir(parents=True)
    (folder / PACKAGE).touch()
    (folder / "src/lookalike/machine.py").write_text("def set_up_notebook():\n    pass\n")
    return folder


@pytest.fixture
def colab(github, tmp_path, monkeypatch):
    """Where a notebook runs: an empty folder, as /content is, and a Drive not mounted yet."""
    standin = write_colab(tmp_path / "standin")
    # Colab's kernel has imported it at the start.
    (standin / "sitecustomize.py").write_text("import google.colab\n")
    monkeypatch.setenv("PYTHONPATH", str(standin))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{github.as_uri()}/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/")
    monkeypatch.setenv("GIT_TERMINAL_PROMPT", "0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # what is not installed already cannot be had
    monkeypatch.delenv("LOOKALIKE_HOME", raising=False)
    drive = tmp_path / "drive of somebody"
    (drive / "lookalike").mkdir(parents=True)
    monkeypatch.setenv("LOOKALIKE_TEST_DRIVE", str(drive))
    (tmp_path / "content").mkdir()
    return tmp_path / "content"


def photos_in(folder):
    return sorted(path.name for path in folder.rglob("photo-*.png"))


@pytest.mark.parametrize(
    ("numbers", "flat"),
    [
        pytest.param([0], False, id="the quickstart alone"),
        pytest.param(range(1, 9), False, id="each on a new machine", marks=pytest.mark.soak),
        pytest.param([1, 4, 9, 10], True, id="photos without labels", marks=pytest.mark.soak),
    ],
)
def test_notebooks_run_on_colab_with_their_photos_and_results_on_drive(
    numbers, flat, colab, tmp_path
):
    for number in numbers:
        skip_without_engines(NOTEBOOKS[number].stem)
    drive = Path(os.environ["LOOKALIKE_TEST_DRIVE"])
    with zipfile.ZipFile(drive / "Products.zip", "w") as archive:
        for number in range(24):
            photo = write_photo(tmp_path / "photos" / f"photo-{number:02}.png", number)
            kind = "" if flat else "cup/" if number % 2 else "plate/"
            archive.write(photo, f"Products/{kind}{photo.name}")
    for number in numbers:
        check_on_colab(number, colab)
        # The machine is recycled; what is on Drive stays.
        os.rename(colab / "drive" / "MyDrive", drive)
        shutil.rmtree(colab)
        colab.mkdir()


def check_on_colab(number, colab):
    drive, clone = colab / "drive" / "MyDrive", colab / "lookalike"
    given = {"source": "zip", "path": f"{drive}/Products.zip", "root": f"{drive}/lookalike"}
    given |= {"backbone": "VGG16Slim", "largest": 2000}
    declared = papermill.inspect_notebook(str(NOTEBOOKS[number]))
    notebook = bound(number, "https://github.com/somebody/lookalike/blob/main")
    notebook.cells.append(nbformat.v4.new_code_cell(WHERE))
    file = str(colab.parent / "notebook.ipynb")
    nbformat.write(notebook, file)
    settings = {"kernel_name": "python3", "progress_bar": False, "cwd": str(colab)}
    settings["extra_arguments"] = ["--IPKernelApp.log_level=50"]
    taken = {name: given[name] for name in given if name in declared}
    papermill.execute_notebook(file, file, taken, **settings)

    code = [cell for cell in nbformat.read(file, 4).cells if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    fetched = "".join(output.get("text", "") for output in code[0].outputs)
    # A failing %pip does not stop a notebook.
    assert not re.search("error|fatal", fetched, re.IGNORECASE)
    text = "".join(output.get("text", "") for output in outputs)
    assert f"Mounted at {drive.parent}" in text
    assert "Colab, " in text
    assert code[-1].outputs[0].text.splitlines() == [str(clone / PACKAGE), sys.executable]

    # What was made is on Drive; the photos, which Drive would be slow to take one by one, are
    # beside the project.
    names = [f"photo-{number:02}.png" for number in range(24)]
    assert [file for file in (drive / "lookalike").rglob("*") if file.is_file()]
    assert photos_in(drive) == []
    assert photos_in(clone / "data") == photos_in(colab) == names
    status = ["status", "--porcelain", "--ignored", "--untracked-files=all"]
    left = [line[3:] for line in git(*status, cwd=clone).splitlines() if "__pycache__" not in line]
    assert {name.split("/")[0] for name in left} == {"data"}
    assert sorted(entry.name for entry in colab.iterdir()) == ["drive", "lookalike"]


def set_up(address, colab):
    """Run the set-up cell alone; the error if there is one, else where the package is."""
    cells = bound(0, f"https://github.com/{address}/blob/main" if address else "").cells
    (cell,) = (cell for cell in cells if "book-set-up" in cell.metadata.get("tags", []))
    code = [nbformat.v4.new_code_cell(source) for source in (cell.source, WHERE)]
    alone = nbformat.v4.new_notebook(cells=code)
    resources = {"metadata": {"path": str(colab)}}
    try:
        NotebookClient(alone, kernel_name="python3", resources=resources).execute()
    except CellExecutionError as error:
        return error.evalue
    return Path(code[-1].outputs[0].text.splitlines()[0]).relative_to(colab).as_posix()


UNZIPPED = f"lookalike/lookalike-main/{PACKAGE}"
PLACES = {
    "cloned from its address": ("somebody/small", f"lookalike/{PACKAGE}"),
    "a zip on Drive": ("", UNZIPPED),
    "a zip on Drive, as the address is closed": ("somebody/closed", UNZIPPED),
    "a folder on Drive": ("", f"drive/MyDrive/Lookalike-main/{PACKAGE}"),
    "an uploaded zip": ("", UNZIPPED),
    "none": ("", "Upload lookalike's zip, or put it on Drive."),
}


# The cell is the same in all notebooks: tests/notebooks/test_book.py.
@pytest.mark.parametrize("place", PLACES)
def test_the_set_up_cell_finds_the_project(place, colab, tmp_path):
    address, found = PLACES[place]
    drive = Path(os.environ["LOOKALIKE_TEST_DRIVE"])
    (colab / "lookalike-photos").mkdir()  # somebody's own
    if place == "a folder on Drive":
        small(drive / "Lookalike-main")
    elif "zip" in place:
        to = colab / "lookalike (1)" if "uploaded" in place else drive / "lookalike-main"
        small(tmp_path / "made" / "lookalike-main")
        shutil.make_archive(str(to), "zip", tmp_path / "made", "lookalike-main")
    for _ in range(2 if place == "a zip on Drive" else 1):  # and again, after a restart
        assert set_up(address, colab) == found
    asked = place not in ("cloned from its address", "an uploaded zip")
    assert (colab / "drive").exists() == asked


@pytest.mark.soak
def test_the_encoder_is_exported_under_the_python_that_colab_has(tmp_path):
    """Where OpenVINO cannot convert a function of TensorFlow, but a SavedModel."""
    python = shutil.which("python3.13") or pytest.skip("there is no Python 3.13")
    folder, own = project(tmp_path / "lookalike"), tmp_path / "environment" / "bin" / "python"
    install = [own, "-m", "pip", "install", "--quiet", "-c", folder / "constraints-colab.txt"]
    install += [f"{folder}[export]", "ipykernel", "nbconvert", "nbformat", "papermill"]
    run = [own, "notebooks/run.py", "--set", "source=sample", "--set", "backbone=VGG16Slim"]
    run += ["--output", tmp_path, "01", "04", "09"]
    for command in ([python, "-m", "venv", tmp_path / "environment"], install, run):
        subprocess.run(command, cwd=folder, check=True)
    cells = nbformat.read(tmp_path / "09_export.ipynb", 4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    text = "".join(output.get("text", "") for output in outputs)
    assert "Python 3.13" in text
    assert re.search(r"openvino: .* vectors, cosine to Keras at least (0\.9999|1\.0000)", text)
    assert "left out" not in text
