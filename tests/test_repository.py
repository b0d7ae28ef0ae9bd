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
    return [path for name in listed.stdout.split("\0")[:-1] if (path := PROJECT / name).is_file()]


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
    sizes = [path.stat().st_size for path in committed_files() if folder in path.parents]
    assert sum(sizes) <= 8_000_000


def requirements():
    """The packages that are asked for by the notebooks, or by an extra that readers install."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML by itself")
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    asked = [line for line in lines if line and line[0] != "#"]
    for extra in ("app", "heic", "excel", "export", "hub", "scale"):
        asked += project["optional-dependencies"][extra]
    return sorted({re.match(r"[\w.-]+", line)[0] for line in asked} - {"lookalike"})


def test_the_readme_names_the_licence_of_every_package_that_is_asked_for():
    table = (PROJECT / "README.md").read_text().split("## Data, weights and licences")[1]
    rows = re.findall(r"^\| (.*?) \| (`.*) \|$", table, re.MULTILINE)
    told = {name: licence for licence, names in rows for name in re.findall(r"`([\w.-]+)`", names)}
    assert sorted(told) == requirements()
    for name, licence in told.items():
        try:
            metadata = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        theirs = [metadata["License-Expression"], metadata["License"]]
        theirs += metadata.get_all("Classifier", [])
        known = " ".join(filter(None, theirs))
        assert re.split("[-,]", licence)[0] in known, f"{name}: {known}"


def test_the_audit_fails_for_a_vulnerability_that_nobody_has_read():
    audit = runpy.run_path(str(PROJECT / ".ci" / "audit.py"))["tell"]
    hole = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "fix_versions": ["1.1"]}
    report = [{"name": "good", "version": "1", "vulns": []}, {"name": "own", "skip_reason": "no"}]
    text, unread = audit({"dependencies": report}, {})
    assert "1 of 2 packages audited, 0 vulnerabilities" in text
    assert "Nothing is known of 1" in text
    assert not unread
    report.append({"name": "bad", "version": "1.0", "vulns": [hole]})
    text, unread = audit({"dependencies": report}, {"CVE-2025-9": "of another"})
    assert unread
    assert text.startswith("bad 1.0: PYSEC-2026-1, mended in 1.1")
    assert not audit({"dependencies": report}, {"CVE-2026-1": "Only its server."})[1]
