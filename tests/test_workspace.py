import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from conftest import PROJECT
from lookalike import workspace
from lookalike.workspace import (
    Workspace,
    choose_source,
    describe_machine,
    file_hash,
    open_workspace,
    parallel_map,
    plain_path,
    project_root,
    quiet_stderr,
    source_name,
    written_aside,
)


def test_the_root_is_the_project_an_environment_variable_or_a_parameter(tmp_path, monkeypatch):
    monkeypatch.delenv("LOOKALIKE_HOME", raising=False)
    assert project_root() == PROJECT
    assert open_workspace().root == PROJECT
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))
    assert open_workspace().root == tmp_path
    (tmp_path / "drive").mkdir()
    drive = open_workspace(tmp_path / "drive")
    assert [folder.is_dir() for folder in (drive.data, drive.embeddings, drive.models)] == [
        True
    ] * 3
    with pytest.raises(FileNotFoundError, match="mount Drive"):
        open_workspace(tmp_path / "missing" / "lookalike")
    assert open_workspace(tmp_path / "new").root.is_dir()


def test_the_machine_is_told_in_one_line():
    line = describe_machine()
    assert "\n" not in line
    for word in ("CPU cores", "GB memory", "TensorFlow", "Keras", "GPU"):
        assert word in line


def test_choices_say_what_and_why():
    assert (
        str(choose_source("auto")) == "source = sample: bundled with the project, needs no network"
    )
    assert str(choose_source("folder")) == "source = folder: as asked"
    assert choose_source("auto", str(PROJECT)).value == "folder"
    assert choose_source("auto", __file__).value == "zip"


def test_two_sources_of_one_name_get_two_names():
    assert source_name("sample") == "sample"
    names = {source_name("folder", path) for path in ("a/photos", "b/photos", "b/photos.zip")}
    assert len(names) == 3
    assert all(name.startswith("photos-") for name in names)
    assert source_name("folder", "photos") == source_name("folder", "./photos/")


def test_parallel_map_keeps_order_and_holds_few_items_at_once():
    running, most, drawn = 0, 0, 0
    lock = threading.Lock()

    def work(item):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.001 * (item % 3))
        with lock:
            running -= 1
        return item * item

    def source():
        nonlocal drawn
        for item in range(200):
            drawn += 1
            yield item

    results = parallel_map(work, source(), workers=4)
    assert next(results) == 0
    assert drawn <= 17  # four workers have four items each at most, and one was handed out
    assert list(results) == [item * item for item in range(1, 200)]
    assert 1 < most <= 4


def test_parallel_map_passes_on_what_goes_wrong():
    def work(item):
        if item == 3:
            raise ValueError("three")
        return item

    with pytest.raises(ValueError, match="three"):
        list(parallel_map(work, range(10)))


def test_written_aside_appears_whole_or_not_at_all(tmp_path):
    file = tmp_path / "new" / "file.txt"
    with written_aside(file) as aside:
        aside.write_text("first")
        assert not file.exists()
    with pytest.raises(RuntimeError), written_aside(file) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert file.read_text() == "first"
    assert list(file.parent.iterdir()) == [file]
    assert file_hash(file) == "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e"


def test_two_threads_that_write_one_file_both_write_it_whole(tmp_path):
    file = tmp_path / "file.txt"
    opened = threading.Barrier(2)

    def write(text):
        with written_aside(file) as aside:
            aside.write_text(text[:3])
            opened.wait()  # both have begun
            aside.write_text(text)
        return text

    texts = ["first" * 9, "second" * 9]
    assert list(parallel_map(write, texts, workers=2)) == texts
    assert file.read_text() in texts
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_killed_process_has_left_beside_a_file_is_cleared_and_nothing_else(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    folder = tmp_path / f".net_{gone.pid}-1.partial"  # where a store called so is made
    folder.mkdir()
    named = {tmp_path / f".store_0.{gone.pid}.partial", tmp_path / f"photo.{gone.pid}-1.partial"}
    alive, left = (tmp_path / f".photo.jpg.{pid}-77.partial" for pid in (os.getpid(), gone.pid))
    for file in (*named, alive, left):
        file.touch()
    (tmp_path / f".a.{gone.pid}-1.partial").mkdir()
    with written_aside(tmp_path / "other.jpg") as aside:
        aside.touch()
    stay = {*named, alive, folder, tmp_path / f".a.{gone.pid}-1.partial", tmp_path / "other.jpg"}
    assert set(tmp_path.iterdir()) == stay


def test_native_noise_is_kept_off_and_standard_error_comes_back(capfd):
    with quiet_stderr():
        workspace.os.write(2, b"noise")
    workspace.os.write(2, b"a warning")
    assert capfd.readouterr().err == "a warning"


def test_importing_the_package_loads_nothing_and_tensorflow_is_quiet_when_asked():
    script = (
        "import sys, lookalike, lookalike.workspace\n"
        "assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)\n"
        "lookalike.workspace.quiet_tensorflow()\n"
        "import keras"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("drawn", "alt"),
    [
        ("figure.suptitle('Two shoes,\\nside by side')", "Two shoes, side by side"),
        ("figure.axes[0].set_title('Counts'); figure.axes[1].set_title('Sizes')", "Counts. Sizes"),
        ("pass", "A figure without a title"),
    ],
)
@pytest.mark.parametrize("end", ["figure", "plt.show()"])
def test_in_a_notebook_every_figure_gets_its_titles_as_alt_text(drawn, alt, end):
    cells = [
        "from lookalike.workspace import set_up_notebook\nset_up_notebook()",
        f"import matplotlib.pyplot as plt\nfigure, _ = plt.subplots(1, 2)\n{drawn}\n{end}",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, kernel_name="python3").execute()
    assert notebook.cells[0].outputs == []
    pictures = [output for output in notebook.cells[1].outputs if "data" in output]
    assert [
        output.metadata["image/png"]["alt"] for output in pictures if "image/png" in output.data
    ]
    for output in pictures:
        assert output.metadata["image/png"]["alt"] == alt


@pytest.mark.parametrize(
    "written", ["{}", " {}", "{} ", "{}/", "'{}'", '"{}"', " '{}' ", "'{} '", "{}//", "{}\n"]
)
@pytest.mark.parametrize("there", ["a zip", "a folder", "nothing"])
def test_a_path_means_what_its_writer_meant(written, there, tmp_path):
    meant = tmp_path / 'John\'s "best" photos'
    if there == "a folder":
        meant.mkdir()
    elif there == "a zip":
        meant.touch()
    assert Path(plain_path(written.format(meant))) == meant
    expected = "zip" if there == "a zip" else "folder"
    assert choose_source("auto", written.format(meant)).value == expected
    assert source_name("folder", written.format(meant)) == source_name("folder", str(meant))


def test_a_path_that_exists_as_written_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (" blank ", "'quoted'", "photos"):
        (tmp_path / name).mkdir()
        assert plain_path(name) == name
    assert plain_path("~/photos") == str(Path.home() / "photos")
    assert plain_path(" '~/photos/' ") == str(Path.home() / "photos")
    assert plain_path("  ") == plain_path("") == ""
    assert choose_source("auto", "  ").value == "sample"
    assert open_workspace(f"'{tmp_path}/results/'").root == tmp_path / "results"
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path))
    assert open_workspace("  ").root == tmp_path


def test_what_lies_inside_the_project_is_named_by_its_place_there(tmp_path, monkeypatch):
    names = set()
    for project in (tmp_path / "here", tmp_path / "there"):
        monkeypatch.setattr(workspace, "project_root", lambda project=project: project)
        names.add(source_name("folder", str(project / "photos")))
    assert len(names) == 1
    names |= {source_name("folder", str(tmp_path / other / "photos")) for other in ("a", "b")}
    assert len(names) == 3


# --- Colab and Drive
# ---------------------------------------------------------------------------------------------


def write_colab(folder):
    """A stand-in for Colab's own package: its `drive.mount` makes the folder appear, and says so.

    Where a process runs is /content to it. If the environment names a folder LOOKALIKE_TEST_DRIVE,
    that is what is on the Drive.
    """
    # No google/__init__.py: other packages live in that namespace too.
    colab = folder / "google" / "colab"
    colab.mkdir(parents=True)
    (colab / "__init__.py").write_text("")
    (colab / "drive.py").write_text(
        "import os\n"
        "from pathlib import Path\n\n\n"
        "def mount(mountpoint):\n"
        "    here = mountpoint.replace('/content/', os.getcwd() + '/', 1)\n"
        "    drive = Path(here if mountpoint.startswith('/content/') else mountpoint) / 'MyDrive'\n"
        "    if not drive.exists():\n"
        "        drive.parent.mkdir(parents=True, exist_ok=True)\n"
        "        content = os.environ.get('LOOKALIKE_TEST_DRIVE')\n"
        "        os.rename(content, drive) if content else drive.mkdir()\n"
        "    print(f'Mounted at {mountpoint}')\n"
    )
    return folder


def run_beside_colab(code, folder):
    """What a new Python prints that could import google.colab, and does so only where the code says
    it.
    """
    path = os.pathsep.join([str(write_colab(folder / "standin")), str(PROJECT / "src")])
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "MOUNT": str(folder / "content" / "drive")},
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()


def test_photos_are_unpacked_below_the_root_but_never_on_a_drive(tmp_path, monkeypatch):
    assert Workspace(tmp_path / "home").downloads == tmp_path / "home" / "data"
    drive = tmp_path / "drive" / "MyDrive"
    for root in (drive, drive / "lookalike", drive / "a" / "b"):
        assert Workspace(root).data == root / "data"
        assert Workspace(root).downloads == PROJECT / "data"
    assert Workspace(tmp_path / "MyDrives").downloads == tmp_path / "MyDrives" / "data"
    (drive / "lookalike").mkdir(parents=True)
    assert open_workspace(drive / "lookalike").downloads == PROJECT / "data"
    monkeypatch.setenv("LOOKALIKE_HOME", str(drive))
    assert open_workspace().downloads == PROJECT / "data"
    assert open_workspace().embeddings == drive / "embeddings"


def test_on_colab_alone_drive_is_mounted_where_a_path_needs_it_and_photos_come_from_kaggle(
    tmp_path,
):
    code = """
import os, sys
from pathlib import Path
mount = Path(os.environ["MOUNT"])
from lookalike.workspace import choose_source, describe_machine, mount_drive, on_colab
print(choose_source("auto").value)
mount_drive(mount / "MyDrive" / "photos.zip")
print(on_colab(), mount.exists())
import google.colab
mount_drive()
mount_drive("", "photos", mount / "photos", "/content/MyDrives/x", mount / "my MyDrive")
print(on_colab(), mount.exists())
mount_drive("", str(mount / "MyDrive" / "photos" / "MyDrive" / "shoes.zip"), "elsewhere")
print((mount / "MyDrive").is_dir(), len(list(mount.rglob("*"))))
mount_drive(mount / "MyDrive")
for given in (["auto"], ["auto", "."], ["auto", "photos.zip"], ["sample"]):
    print(choose_source(*given))
print(describe_machine())
"""
    (tmp_path / "photos.zip").touch()
    *told, machine = run_beside_colab(code, tmp_path)
    assert told == [
        "sample",
        "False False",
        "True False",
        f"Mounted at {tmp_path / 'content' / 'drive'}",
        "True 1",
        f"Mounted at {tmp_path / 'content' / 'drive'}",
        "source = caltech256: photographs from Kaggle, as this is Colab",
        "source = folder: there is a path",
        "source = zip: there is a path",
        "source = sample: as asked",
    ]
    assert machine.startswith("Colab, ")


def test_what_is_required_and_missing_is_named_with_the_line_that_installs_it():
    workspace.require()
    workspace.require("numpy", "psutil")
    with pytest.raises(
        ImportError,
        match=r"^no-such-thing and nor-this not installed; run: pip install no-such-thing nor-this$",
    ):
        workspace.require("numpy", "no-such-thing", "nor-this")
