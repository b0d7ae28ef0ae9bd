"""The project runs from any folder: copied, moved, oddly named, with photos in oddly named ones."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pandas as pd
import pytest

from conftest import PROJECT, write_photo

sys.path.insert(0, str(PROJECT / "notebooks"))
import run

ASKED = "cat requirements.txt constraints.txt pyproject.toml | cksum"
WHERE = "import lookalike; print(lookalike.__file__)"
NAMES = [
    "John's photos",
    "US$Sale",
    "$(HOME)",
    "$(echo gone)",
    "`echo gone`",
    "two  blanks",
    'the "best"',
    "back\\slash",
    "semi;colon",
    "this & that",
    "a|b",
    "all*",
    "what?",
    "[kept]",
    "{a,b}",
    "#1",
    "100%",
    "%d %s",
    "~tilde",
    "Zoë's été 照片",
    "-dash",
    "a=b",
    "(1)",
    "!important",
    "a:b",
    "<new>",
]


def listed():
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.split("\0") if (PROJECT / name).is_file()]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A copy of the project with an environment of its own, set up as `make setup` leaves it.

    Its packages are those of the environment that runs the tests, all but the project itself.
    """
    folder = tmp_path_factory.mktemp("somewhere") / "first project"
    for name in listed():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / name, folder / name)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=folder, check=True)
    packages = next((folder / ".venv" / "lib").glob("python*/site-packages"))
    (packages / "those_of_the_tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    if (Path(sys.prefix) / "share").is_dir():  # Jupyter's templates
        (folder / ".venv" / "share").symlink_to(Path(sys.prefix) / "share")
    # As pip's editable install writes it.
    (packages / "__editable__.lookalike-0.1.0.pth").write_text(f"{folder / 'src'}\n")
    subprocess.run([".venv/bin/python", ".ci/link.py"], cwd=folder, check=True)
    assert not list(packages.glob("__editable__*"))
    asked = subprocess.run(ASKED, shell=True, cwd=folder, capture_output=True, text=True).stdout
    (folder / ".venv" / ".installed").write_text(asked)
    for number in range(6):
        write_photo(folder / "photos" / ("cup" if number % 2 else "hat") / f"{number}.png", number)
    return folder


def environment():
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def package_of(folder):
    done = subprocess.run(
        [".venv/bin/python", "-c", WHERE],
        cwd=folder,
        env=environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    return Path(done.stdout.strip())


def inside(folder):
    return sorted(path.name for path in (folder / "embeddings").iterdir() if path.is_dir())


def test_a_copied_project_runs_its_own_code_and_writes_its_own_results(original):
    copied = original.with_name("second project")
    shutil.copytree(original, copied, symlinks=True)
    assert package_of(copied) == copied / "src" / "lookalike" / "__init__.py"
    command = [".venv/bin/python", "notebooks/run.py", "--set", "path=photos", "00"]
    command[2:2] = ["--set", "source=folder", "--set", "backbone=VGG16Slim"]
    done = subprocess.run(command, cwd=copied, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(inside(copied)) == 1
    assert inside(original) == []
    assert package_of(original) == original / "src" / "lookalike" / "__init__.py"


def test_a_moved_project_sets_nothing_up_anew_and_opens_its_page_on_an_odd_folder(original):
    moved = original.with_name("moved, & renamed 照片")
    shutil.copytree(original, original.with_name("to be moved"), symlinks=True)
    os.rename(original.with_name("to be moved"), moved)
    assert package_of(moved) == moved / "src" / "lookalike" / "__init__.py"
    odd = moved / """John's "US$Sale" & 照片"""
    os.rename(moved / "photos", odd)
    arguments = ["make", "app", "SOURCE=folder", f"DATA={odd}", "BACKBONE=VGG16Slim"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(
        arguments, cwd=moved, env=environment(), start_new_session=True, **options
    ) as process:
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if re.search(r"The page is at http://", line):
                    break
        finally:
            os.killpg(process.pid, 9)
    told = "".join(lines)
    assert "The page is at http://127.0.0.1" in told, told
    assert "Installing" not in told
    assert len(inside(moved)) == 1
    assert inside(original) == []


@pytest.fixture(scope="module")
def recorder(tmp_path_factory):
    """An environment whose Python only writes down what it is called with."""
    folder = tmp_path_factory.mktemp("recorder")
    (folder / "bin").mkdir()
    script = folder / "bin" / "python"
    script.write_text('#!/bin/sh\nprintf "%s\\0" "$@" > "$RECORDED"\n')
    script.chmod(0o755)
    asked = subprocess.run(ASKED, shell=True, cwd=PROJECT, capture_output=True, text=True).stdout
    (folder / ".installed").write_text(asked)
    return folder


def given_by_make(recorder, *arguments):
    file = recorder / "recorded"
    file.unlink(missing_ok=True)
    subprocess.run(
        ["make", f"VENV={recorder}", *arguments],
        cwd=PROJECT,
        env=environment() | {"RECORDED": str(file), "SOURCE": "zip", "DATA": "of the environment"},
        check=True,
        capture_output=True,
    )
    return file.read_text(encoding="utf-8").split("\0")[:-1]


@pytest.mark.parametrize("name", NAMES)
def test_what_make_is_given_reaches_python_as_it_was_written(name, recorder):
    told = given_by_make(recorder, "run", f"DATA=/shop/{name}", f"WEIGHTS={name}.h5")
    assert f"path=/shop/{name}" in told
    assert f"weights={name}.h5" in told
    assert "source=" in told  # a variable of the environment is not meant for us
    told = given_by_make(recorder, "app", f"DATA=/shop/{name}", "PORT=7777")
    assert told[told.index("--path") + 1] == f"/shop/{name}"
    assert told[told.index("--port") + 1] == "7777"
    assert "--alpha" not in told
    told = given_by_make(recorder, "bench", f"DATA=/shop/{name}", "ALPHA=0.35")
    assert told[told.index("--data") + 1] == f"/shop/{name}"
    assert told[told.index("--alpha") + 1] == "0.35"


@pytest.mark.parametrize("name", NAMES)
def test_the_runner_takes_an_odd_name_as_it_is(name, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    paths = run.find_notebooks(["00"])
    for written in (name, f"{name}/", f" {name} ", f"'{name}'", str(tmp_path / name)):
        (given,) = run.parse_parameters([f"path={written}"], paths).values()
        assert Path(given["path"]) == tmp_path / name, written


def test_a_notebook_runs_on_photos_in_an_odd_folder(tmp_path):
    folder = tmp_path / """John's "US$Sale" {x} \\ & 照片 %d"""
    for number in range(4):
        write_photo(folder / ("cup" if number % 2 else "hat") / f"{number}.png", number)
    command = [sys.executable, str(PROJECT / "notebooks" / "run.py"), "00"]
    settings = (f"path={folder}", "backbone=VGG16Slim", f"root={tmp_path}")
    command += [word for setting in settings for word in ("--set", setting)]
    subprocess.run([*command, "--output", str(tmp_path / "build")], check=True, capture_output=True)
    (table,) = (tmp_path / "embeddings").glob("*/recommendations.csv")
    assert len(pd.read_csv(table)) == 12
    assert json.loads((tmp_path / "build" / "00_quickstart.ipynb").read_text())["cells"]
