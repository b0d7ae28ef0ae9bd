"""RESULTS.md is written by the benchmarks, a section each."""

import sys

import pandas as pd

from conftest import PROJECT

sys.path.append(str(PROJECT / "benchmarks"))
import results


def test_a_new_result_takes_the_place_of_the_old_one_and_leaves_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FILE", tmp_path / "RESULTS.md")
    for title, value in (("Reading", 1), ("Writing", 2), ("Reading", 3)):
        results.record(title, f"python {title}.py", pd.DataFrame({"images/s": [value]}), "A note.")
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.startswith("# Measured\n")
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## Writing", "## Reading"]
    assert "| 2 |" in text
    assert "| 3 |" in text
    assert "| 1 |" not in text
    assert "`python Reading.py`" in text


def test_every_committed_result_names_its_command():
    sections = (PROJECT / "benchmarks" / "RESULTS.md").read_text().split("\n## ")[1:]
    assert sections
    for section in sections:
        script = section.split("`python ")[1].split()[0]
        assert (PROJECT / script).is_file()
