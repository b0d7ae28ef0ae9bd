"""Every notebook opened alone, where nothing was made yet: it runs, or says what to run first."""

import re

import pytest
from test_notebooks import NOTEBOOKS, run

from conftest import quick, skip_without_engines

NAMES = [path.stem for path in NOTEBOOKS]
SENTENCE = r"FileNotFoundError: No [^\n]+\. Run (\d\d_\w+)\.ipynb first\."
CHAIN = {"03_fine_tuning": ["01_data", "02_transfer_learning"]}
CHAIN |= {"07_near_duplicates": ["01_data"], "12_metric_learning": ["01_data"]}


def wants_first(name, home):
    """The notebook that one, run on the sample, wants to be run first; "" if it went through."""
    skip_without_engines(name)
    given = {"source": "sample"}
    given |= {} if name == "01_data" else {"backbone": "VGG16Slim"}
    given |= {"largest": 2000} if name == "10_scaling_out" else {}
    process = run([name], home, **given)
    if process.returncode == 0:
        return ""
    assert "Traceback" not in process.stderr
    told = process.stderr.rstrip().rpartition("\n\n")[2]
    match = re.fullmatch(SENTENCE, told)
    assert match, f"{name} neither runs alone nor says what is to be run first: {told}"
    return match[1]


@pytest.mark.parametrize("name", quick(NAMES[1:], "03_fine_tuning"))
def test_a_notebook_alone_runs_or_says_which_to_run_first(name, tmp_path):
    assert wants_first(name, tmp_path) in ["", *NAMES[: NAMES.index(name)]]


@pytest.mark.soak
@pytest.mark.parametrize("name", CHAIN)
def test_what_a_notebook_says_is_enough_to_run_it(name, tmp_path):
    followed = []
    while first := wants_first(name, tmp_path):
        followed.append(first)
        assert followed == CHAIN[name][: len(followed)]
        assert wants_first(first, tmp_path) == ""
    assert followed == CHAIN[name]
