"""What must hold of the repository as a whole."""

import hashlib
import importlib.metadata
import re
import runpy
import subprocess

import pytest

from conftest import CLOTHING, GROCERY, MOBILENET, PROJECT


def committed_files():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [
        PROJECT / name for name in listed.stdout.split("\0") if name and (PROJECT / name).is_file()
    ]


def test_no_leftover_is_committed():
    assert not [path for path in committed_files() if path.suffix in (".orig", ".rej", ".pyi")]


@pytest.mark.skipif(not CLOTHING.is_dir(), reason="photos of others are not beside the project")
def test_nothing_of_others_is_committed():
    photos = [path for folder in (CLOTHING, GROCERY) for path in folder.rglob("*.jpg")]
    assert len(photos) > 6_000
    theirs = {hashlib.sha256(path.read_bytes()).digest() for path in [*photos, MOBILENET]}
    committed = {hashlib.sha256(path.read_bytes()).digest(): path for path in committed_files()}
    assert not [committed[digest] for digest in theirs & committed.keys()]


def test_the_sample_is_small_and_lists_every_picture_it_has():
    folder = PROJECT / "data" / "sample"
    pictures = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*.jpg"))
    listed = [line.split(",")[0] for line in (folder / "catalog.csv").read_text().splitlines()[1:]]
    assert pictures == listed
    assert (
        sum(path.stat().st_size for path in committed_files() if folder in path.parents)
        <= 8_000_000
    )


def requirements():
    """The packages that are asked for, by what: the notebooks, or an extra."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML by itself")
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    lines = [
        line
        for line in (PROJECT / "requirements.txt").read_text().splitlines()
        if line and line[0] != "#"
    ]
    asked = lines + [
        line
        for extra in ("app", "heic", "excel", "export", "hub", "scale")
        for line in project["optional-dependencies"][extra]
    ]
    return sorted({re.match(r"[\w.-]+", line)[0] for line in asked} - {"lookalike"})


def test_the_readme_names_the_licence_of_every_package_that_is_asked_for():
    table = (PROJECT / "README.md").read_text().split("## Data, weights and licences")[1]
    rows = re.findall(r"^\| (.*?) \| (`.*) \|$", table, re.MULTILINE)
    told = {name: licence for licence, names in rows for name in re.findall(r"`([\w.-]+)`", names)}
    assert sorted(told) == requirements()
    for name in filter(is_installed, told):
        metadata = importlib.metadata.metadata(name)
        theirs = [
            metadata["License-Expression"],
            metadata["License"],
            *metadata.get_all("Classifier", []),
        ]
        assert re.split("[-,]", told[name])[0] in " ".join(filter(None, theirs)), (
            f"{name}: {theirs}"
        )


def is_installed(name):
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


@pytest.fixture
def audit():
    return runpy.run_path(str(PROJECT / ".ci" / "audit.py"))["tell"]


def test_the_audit_fails_for_a_vulnerability_that_nobody_has_read(audit):
    hole = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "fix_versions": ["1.1"]}
    report = {"dependencies": [{"name": "good", "version": "1", "vulns": []}]}
    assert audit(report, {}) == ("1 of 1 packages audited, 0 vulnerabilities.", False)
    report["dependencies"].append({"name": "bad", "version": "1.0", "vulns": [hole]})
    text, unread = audit(report, {"CVE-2025-9": "of another"})
    assert unread
    assert text.startswith("bad 1.0: PYSEC-2026-1, mended in 1.1")
    assert audit(report, {"CVE-2026-1": "Only its server is concerned."})[1] is False


def test_the_audit_tells_what_could_not_be_asked(audit):
    text, unread = audit({"dependencies": [{"name": "secret", "skip_reason": "not found"}]}, {})
    assert "0 of 1 packages audited" in text
    assert "Nothing is known of 1" in text
    assert not unread
