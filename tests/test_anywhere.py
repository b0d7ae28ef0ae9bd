"""The project runs from any folder: copied, moved, oddly named, with photos in oddly named ones."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from conftest import PROJECT, write_photo

sys.path.insert(0, str(PROJECT / "notebooks"))
import run

ASKED = "cat requirements.txt constraints.txt pyproject.toml | cksum"
WHERE = "import lookalike; print(lookalike.__file__)"
PHOTOS = """John's "US$Sale" & 照片"""
NAMES = [
    """John's "best"  (US$Sale) & more; 100% #1 照片""",
    "$(HOME) and `echo gone`",
    "a$(b {c,d} [e] <f> all* what? |g",
    "back\\slash %d !x a=b:c",
    "-dash",
    "~tilde",
    "$(error gone)",
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
        write_photo(folder / PHOTOS / ("cup" if number % 2 else "hat") / f"{number}.png", number)
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


def page_of(folder, *arguments):
    """What `make app` prints until there is a page."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    options |= {"cwd": folder, "env": environment(), "start_new_session": True}
    with subprocess.Popen(["make", "app", *arguments], **options) as process:
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if "http://127.0.0.1:" in line:
                    break
        finally:
            os.killpg(process.pid, 9)
    return "".join(lines)


def test_a_copied_and_then_moved_project_runs_its_own_code_and_finds_its_own_results(original):
    copied, moved = original.with_name("second project"), original.with_name("moved, & 照片")
    shutil.copytree(original, copied, symlinks=True)
    assert package_of(copied) == copied / "src" / "lookalike" / "__init__.py"
    command = [".venv/bin/python", "notebooks/run.py", "--set", f"path={PHOTOS}"]
    command += ["--set", "source=folder", "--set", "backbone=VGG16Slim"]
    command += ["01", "04", "07"]
    done = subprocess.run(command, cwd=copied, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (store,) = inside(copied)
    os.rename(copied, moved)
    assert package_of(moved) == moved / "src" / "lookalike" / "__init__.py"
    told = page_of(moved, "SOURCE=folder", f"DATA={moved / PHOTOS}", "BACKBONE=VGG16Slim")
    assert "http://127.0.0.1:" in told, told
    assert "Installing" not in told
    assert "Embedding: " not in told  # it has found what it had embedded under its old name
    assert inside(moved) == [store]
    assert inside(original) == []
    assert package_of(original) == original / "src" / "lookalike" / "__init__.py"


def test_whatever_installs_the_project_links_it_as_well():
    for recipe in (PROJECT / "Makefile").read_text().split("\n\n"):
        installs = [line for line in recipe.splitlines() if re.search(r"pip install.* -e ", line)]
        assert recipe.count(".ci/link.py") >= len(installs), recipe


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
    assert f"--path=/shop/{name}" in told
    assert "--port=7777" in told
    told = given_by_make(
        recorder, "bench", f"DATA=/shop/{name}", "BACKBONE=MobileNetV2", "ALPHA=0.35"
    )
    assert f"--data=/shop/{name}" in told
    assert "--backbone=MobileNetV2-0.35" in told


@pytest.mark.parametrize("name", NAMES)
def test_the_runner_takes_an_odd_name_as_it_is(name, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    paths = run.find_notebooks(["00"])
    for written in (name, f"{name}/", f" {name} ", f"'{name}'", str(tmp_path / name)):
        (given,) = run.parse_parameters([f"path={written}"], paths).values()
        assert Path(given["path"]) == tmp_path / name, written
