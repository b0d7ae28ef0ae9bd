"""Every notebook opened alone, in a project where nothing was made yet: it runs, or says which one
to run first.
"""

import re

import pytest
from test_notebooks import NOTEBOOKS, run

from conftest import quick, skip_without_engines

NAMES = [path.stem for path in NOTEBOOKS]
FILE = r"(\d\d_\w+)\.ipynb"
SENTENCE = re.compile(rf"FileNotFoundError: No [^\n]+\. Run {FILE} first\.")
CHAIN = {"03_fine_tuning": ["01_data", "02_transfer_learning"], "07_near_duplicates": ["01_data"]}


def run_alone(name, root):
    """Run a notebook on the sample; the names of those that it wants to be run first, none if it
    went through.
    """
    skip_without_engines(name)
    settings = ["source=sample", f"root={root}"]
    settings += ["backbone=VGG16Slim"] * (name != NAMES[1])
    settings += ["largest=2000"] * (name == NAMES[10])
    process = run(
        name,
        *(word for one in settings for word in ("--set", one)),
        "--output",
        root.parent / "build",
    )
    if process.returncode == 0:
        return []
    told = process.stderr.rstrip().rpartition("\n\n")[2]
    assert "Traceback" not in process.stderr
    match = SENTENCE.fullmatch(told)
    assert match, (
        f"{name} neither runs alone nor says in one sentence what is to be run first: {told}"
    )
    return [first for first in match.groups() if first]


@pytest.mark.parametrize("name", quick(NAMES[1:], "05_recommendations"))
def test_a_notebook_alone_runs_or_says_which_to_run_first(name, tmp_path):
    first = run_alone(name, tmp_path / "fresh")
    assert all(one in NAMES[: NAMES.index(name)] for one in first)


@pytest.mark.soak
@pytest.mark.parametrize("name", CHAIN)
def test_what_a_notebook_says_is_enough_to_run_it(name, tmp_path):
    followed = []
    while first := run_alone(name, tmp_path / "fresh"):
        followed.append(first[-1])
        assert len(followed) == len(set(followed)), f"{followed} were run, and {name} wants {first}"
        assert run_alone(first[-1], tmp_path / "fresh") == []
    assert followed == CHAIN[name]
