"""RESULTS.md is written by the benchmarks, a section each."""

import json
import re
import runpy
import sys

import keras
import pandas as pd
import pytest

from conftest import PROJECT, write_photo

sys.path.append(str(PROJECT / "benchmarks"))
import results


def test_a_new_result_takes_the_place_of_the_old_one_and_leaves_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FILE", tmp_path / "RESULTS.md")
    for title, value in (("Reading", 1), ("Writing", 2), ("Reading", 3)):
        results.record(title, f"python {title}.py", pd.DataFrame({"images/s": [value]}), "A note.")
    text = (tmp_path / "RESULTS.md").read_text()
    assert re.findall(r"(?m)^##? .*", text) == ["# Measured", "## Writing", "## Reading"]
    assert re.findall(r"\| (\d) \|", text) == ["2", "3"]
    assert "`python Reading.py`" in text


def test_every_committed_result_names_its_command():
    sections = (PROJECT / "benchmarks" / "RESULTS.md").read_text().split("\n## ")[1:]
    assert sections
    for section in sections:
        assert (PROJECT / re.search(r"`python (\S+?)[` ]", section)[1]).is_file()


@pytest.fixture
def photos(tmp_path):
    """Cups and plates, three quarters of them to train with; their folder."""
    for number in range(40):
        place = "train" if number < 30 else "validation"
        kind = "cup" if number % 2 else "plate"
        write_photo(tmp_path / "photos" / place / kind / f"{number}.png", number)
    return tmp_path / "photos"


@pytest.fixture
def benchmark(tmp_path, monkeypatch, capsys):
    """Runs a benchmark in this process: its last line, what it writes, the rows of its tables."""
    monkeypatch.setattr(results, "FILE", tmp_path / "RESULTS.md")

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(PROJECT / "benchmarks" / name), run_name="__main__")
        text = (tmp_path / "RESULTS.md").read_text()
        rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line[:1] == "|"]
        return capsys.readouterr().out.splitlines()[-1], text, rows

    return run


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_search_is_compared_with_others_that_find_the_same(benchmark):
    pytest.importorskip("faiss")
    small = ("--sizes", 2000, "--dim", 16, "--queries", 1, 40, "--repeats", 1, "--mapped", 3000)
    told, text, _ = benchmark("search.py", *small)
    ratios = json.loads(told)["time relative to faiss flat"]
    assert list(ratios) == ["2,000 x 16, 1", "2,000 x 16, 40"]
    assert all(ratio > 0 for ratio in ratios.values())
    # Two sets of queries, with and without lengths that were measured before.
    assert text.count("100.00%") == 4
    assert "3,000 x 128 (2 MB) mapped from disk" in text


def test_engines_are_compared_in_a_table_over_sizes(benchmark, photos):
    pytest.importorskip("faiss")
    kinds = ("exact", "flat", "hnsw")
    told, text, rows = benchmark(
        "scale.py", "--data", photos, "--sizes", 300, 600, "--kinds", *kinds
    )
    told = json.loads(told)
    assert told["recall"]["exact"] == told["recall"]["flat"] == 1
    assert told["recall"]["hnsw"] > 0.9
    assert told["MB"]["exact"] == round(600 * 128 * 4 / 1e6, 3)
    assert [row[:2] for row in rows[2:]] == [[k, str(size)] for size in (300, 600) for k in kinds]
    assert rows[0][-2:] == ["recall, w 0", "recall, w 0.2"]
    assert float(rows[-1][-1]) > 0.9  # of the graph alone, with colours
    assert "--data PHOTOS --kinds exact flat hnsw`" in text


BFLOAT16 = r"\| bfloat16, TensorFlow \| \S+ \| 0\.99"
WAYS = "(?s)colour histogram.*untrained.*head trained.*fine-tuned.*logistic regression"


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "asked", "told"),
    [
        ("embedding.py", ["--seconds", 0.2, "--backbones", "VGG16Slim"], [r"\| ours / loop \|"]),
        ("embedding.py", ["--seconds", 0.2, "--backbones", "--overlap", "VGG16Slim"], [BFLOAT16]),
        (
            "evaluation.py",
            ["--backbone", "VGG16Slim", "--epochs", 1],
            [WAYS, "10 queries among 30 photos", "block5_conv3", "brightness", "central crop"],
        ),
    ],
)
def test_what_takes_longer_is_compared_and_recorded(benchmark, photos, name, asked, told):
    policy = keras.config.dtype_policy().name
    _, text, _ = benchmark(name, "--data", photos, *asked)
    for one in told:
        assert re.search(one, text), one
    assert keras.config.dtype_policy().name == policy
