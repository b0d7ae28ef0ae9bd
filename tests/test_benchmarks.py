"""RESULTS.md is written by the benchmarks, a section each."""

import json
import runpy
import sys
from importlib.util import find_spec

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
    assert text.startswith("# Measured\n")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Writing",
        "## Reading",
    ]
    assert "| 2 |" in text
    assert "| 3 |" in text
    assert "| 1 |" not in text
    assert "`python Reading.py`" in text


def test_every_committed_result_names_its_command():
    sections = (PROJECT / "benchmarks" / "RESULTS.md").read_text().split("\n## ")[1:]
    assert sections
    for section in sections:
        script = section.split("`python ")[1].split("`")[0].split()[0]
        assert (PROJECT / script).is_file()


def run_benchmark(name, arguments, tmp_path, monkeypatch, capsys):
    """The JSON line of a benchmark, and what it wrote, in this process."""
    monkeypatch.setattr(results, "FILE", tmp_path / "RESULTS.md")
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(PROJECT / "benchmarks" / name), run_name="__main__")
    return json.loads(capsys.readouterr().out.splitlines()[-1]), (
        tmp_path / "RESULTS.md"
    ).read_text()


def write_photos(folder, count):
    """Cups and plates, three quarters of them to train with; their folder."""
    for number in range(count):
        split = "train" if number < count * 3 // 4 else "validation"
        kind = "cup" if number % 2 else "plate"
        write_photo(folder / split / kind / f"{number}.png", number)
    return folder


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_search_is_compared_with_others_that_find_the_same(tmp_path, monkeypatch, capsys):
    pytest.importorskip("faiss")
    small = ("--sizes", 2000, "--dim", 16, "--queries", 1, 40, "--repeats", 1, "--mapped", 3000)
    told, written = run_benchmark("search.py", small, tmp_path, monkeypatch, capsys)
    ratios = told["time relative to faiss flat"]
    assert list(ratios) == ["2,000 x 16, 1", "2,000 x 16, 40"]
    assert all(ratio > 0 for ratio in ratios.values())
    # Two sets of queries, with and without lengths that were measured before.
    assert written.count("100.00%") == 4
    assert "3,000 x 128 (2 MB) mapped from disk" in written


def test_engines_are_compared_in_a_table_over_sizes(tmp_path, monkeypatch, capsys):
    pytest.importorskip("faiss")
    photos = write_photos(tmp_path / "photos", 80)
    arguments = ("--data", photos, "--sizes", 300, 600, "--kinds", "exact", "flat", "hnsw")
    told, written = run_benchmark("scale.py", arguments, tmp_path, monkeypatch, capsys)
    assert told["recall"]["exact"] == told["recall"]["flat"] == 1
    assert told["recall"]["hnsw"] > 0.9
    assert told["MB"]["exact"] == round(600 * 128 * 4 / 1e6, 3)
    rows = [line.strip("| ").split(" | ") for line in written.splitlines() if line[:1] == "|"]
    kinds = [[kind, str(size)] for size in (300, 600) for kind in ("exact", "flat", "hnsw")]
    assert [row[:2] for row in rows[2:]] == kinds
    assert rows[0][-2:] == ["recall, w 0", "recall, w 0.2"]
    assert float(rows[-1][-1]) > 0.9  # of the graph alone, with colours
    assert "--data PHOTOS --kinds exact flat hnsw`" in written


@pytest.mark.soak
def test_stores_are_compared_with_the_loop_and_the_forward_pass(tmp_path, monkeypatch, capsys):
    photos = write_photos(tmp_path / "photos", 100)
    arguments = ("--data", photos, "--backbones", "VGG16Slim", "--seconds", 0.2)
    told, written = run_benchmark("embedding.py", arguments, tmp_path, monkeypatch, capsys)
    ratios = told["VGG16Slim"]
    ways = ["ours", "ours, OpenVINO"] if find_spec("openvino") else ["ours"]
    expected = [f"{way} / {what}" for way in ways for what in ("the same forward", "loop")]
    assert list(ratios) == expected
    assert "| images/s, then ratios | VGG16Slim |" in written
    assert all(f"| {row} | " in written for row in ("loop", "forward, TensorFlow", *ways, *ratios))


def test_precisions_are_compared_on_photos_that_search_among_others(tmp_path, monkeypatch, capsys):
    photos = write_photos(tmp_path / "photos", 40)
    policy = keras.config.dtype_policy().name
    arguments = ("--data", photos, "--backbones", "--overlap", "VGG16Slim", "--seconds", 0.2)
    told, written = run_benchmark("embedding.py", arguments, tmp_path, monkeypatch, capsys)
    assert told == {}
    rows = [line.strip("| ").split(" | ") for line in written.splitlines() if line[:1] == "|"]
    cosines = {row[0]: row[2:4] for row in rows[2:]}
    assert cosines["float32, TensorFlow"] == ["1.00000", "100.00%"]
    assert cosines["bfloat16, TensorFlow"][0].startswith("0.99")
    if find_spec("openvino"):
        assert cosines["float32, OpenVINO"][0] == "1.00000"
    assert keras.config.dtype_policy().name == policy


@pytest.mark.soak
def test_encoders_edits_and_cheap_ways_are_compared_and_recorded(tmp_path, monkeypatch):
    photos = str(write_photos(tmp_path / "photos", 40))
    monkeypatch.setattr(results, "FILE", tmp_path / "RESULTS.md")
    arguments = ["x", "--data", photos, "--backbone", "VGG16Slim", "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(PROJECT / "benchmarks" / "evaluation.py"), run_name="__main__")
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.count("\n## ") == 4
    assert "`python benchmarks/evaluation.py --data DIR --backbone VGG16Slim --epochs 1`" in text
    encoders, stages, edits, cheap = text.split("\n## ")[1:]
    rows = [
        line.split(" | ")[0].strip("| ") for line in encoders.splitlines() if line.startswith("| ")
    ]
    ways = ["colour histogram", "untrained", "VGG16Slim", "head trained", "fine-tuned"]
    assert rows[2:] == [*ways, "logistic regression", "fine-tuned + colour"]
    assert "10 queries among 30 photos; guessing has 0.500" in encoders
    assert "| block5_conv3 |" in stages
    assert edits.count("| brightness |") == 6
    assert "| average pooling | " in cheap
    assert "| central crop | " in cheap
