"""The benchmark as it is called: on a small folder, and, where they lie beside the project, on real
photos.
"""

import json
import re
import subprocess
import sys

import pytest
from PIL import Image

from conftest import CLOTHING, PROJECT, write_photo


def run_quality(*arguments):
    command = [sys.executable, str(PROJECT / "benchmarks" / "quality.py"), *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1]), process.stdout


@pytest.mark.soak
@pytest.mark.parametrize("phase", ["--train", "--fine-tune"])
def test_training_on_the_gallery_adds_accuracy_and_time(tmp_path, phase):
    for number in range(40):
        colour = ["firebrick", "navy"][number % 2]
        path = tmp_path / ("train" if number < 30 else "validation") / colour / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        # No two are the same file, or they could not be asked.
        Image.new("RGB", (40, 40 + number), colour).save(path)
    options = ("--backbone", "VGG16Slim", "--image-size", 32, "--epochs", 40, phase)
    result, output = run_quality("--data", tmp_path, *options)
    assert result["accuracy"] == 1
    assert result["seconds_training"] > 0
    assert "trained" in result["encoder"]
    assert (result["n_queries"], result["n_gallery"]) == (10, 30)
    assert "40/40" in output
    flat, output = run_quality("--data", tmp_path / "train", *options)
    assert "85 % of the products" in output
    assert flat["n_queries"] + flat["n_gallery"] == 30


def test_named_splits_are_used(tmp_path):
    for number in range(12):
        split = "train" if number < 8 else "test"
        write_photo(tmp_path / split / ("red" if number % 2 else "blue") / f"{number}.png", number)
    options = ("--backbone", "VGG16Slim", "--weights", "none", "--image-size", 32, "--k", 3)
    result, _ = run_quality("--data", tmp_path, *options, "--query-split", "test")
    # Ten results from eight photos.
    assert (result["n_queries"], result["n_gallery"], result["chance"]) == (4, 8, 0.4)


@pytest.mark.soak
@pytest.mark.skipif(not CLOTHING.is_dir(), reason="the clothing photos are not beside the project")
def test_the_bundled_network_is_as_good_on_real_photos_as_its_card_says():
    result, _ = run_quality("--data", CLOTHING, "--backbone", "VGG16Slim")
    card = (PROJECT / "models" / "README.md").read_text()
    assert result["precision_at_10"] >= 0.74
    [said] = re.findall(r"\| clothing, the same kind of ten \| ([0-9.]+) \(", card)
    assert result["precision_at_10"] == pytest.approx(float(said), abs=0.005)
