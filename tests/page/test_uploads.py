"""Uploads are opened by another process: every good photo arrives, and nothing else does harm."""

import sys
import time

import numpy as np
import psutil
import pytest
from hostile import BAD, GOOD, picture, saved
from PIL import Image

from lookalike.images import load_image
from lookalike.page.uploads import UploadError, decode_upload
from lookalike.page.worker import SIDE


def written(folder, data):
    file = folder / "upload.jpg"
    file.write_bytes(data)
    return str(file)


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_of_photo_arrives_as_its_file_is(name, tmp_path):
    file = written(tmp_path, GOOD[name])
    found = decode_upload(file)
    whole = Image.fromarray(load_image(file))
    whole.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found, np.asarray(whole))


def test_48_megapixels_arrive_small(tmp_path):
    data = saved(picture(size=(8064, 6048)), "JPEG", quality=90)
    found = decode_upload(written(tmp_path, data))
    assert found.shape == (384, 512, 3)
    whole = picture(size=(512, 384))
    assert np.abs(found.astype(int) - np.asarray(whole)).mean() < 6


@pytest.mark.parametrize("name", BAD)
def test_every_hostile_file_is_a_photo_or_a_sentence_in_time_and_costs_the_page_nothing(
    name, tmp_path
):
    decode_upload(written(tmp_path, GOOD["PNG"]))
    file = written(tmp_path, BAD[name])
    process = psutil.Process()
    before, begun = process.memory_info().rss, time.monotonic()
    try:
        assert max(decode_upload(file).shape) <= SIDE
        assert name == "JPEG, 300 passes"
    except UploadError as error:
        assert str(error).endswith((". Choose another.", ". Save it smaller."))
        assert str(tmp_path) not in str(error)
    assert time.monotonic() - begun < 6
    assert process.memory_info().rss - before < 200_000_000
    assert decode_upload(written(tmp_path, GOOD["PNG"])).shape == (36, 48, 3)


def test_without_a_photo_it_says_what_to_do_and_a_killed_worker_is_replaced(tmp_path):
    with pytest.raises(UploadError, match="Choose one first"):
        decode_upload(None)
    file = written(tmp_path, GOOD["PNG"])
    decode_upload(file)
    for worker in psutil.Process().children():
        worker.kill()
        worker.wait()
    with pytest.raises(UploadError, match="takes too long, or too much memory"):
        decode_upload(file)
    assert decode_upload(file).shape == (36, 48, 3)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_a_worker_has_only_so_much_memory_and_neither_tensorflow_nor_gradio(tmp_path):
    decode_upload(written(tmp_path, GOOD["PNG"]))
    for worker in psutil.Process().children():
        assert worker.rlimit(psutil.RLIMIT_AS)[0] == 2_000_000_000
        paths = " ".join(one.path for one in worker.memory_maps())
        assert "numpy" in paths
        assert "tensorflow" not in paths
        assert "pandas" not in paths


@pytest.mark.parametrize("count", [60, pytest.param(5000, marks=pytest.mark.soak)])
def test_any_damage_to_a_photo_leaves_a_photo_or_a_sentence(count, tmp_path):
    random = np.random.default_rng(0)
    kinds = [name for name in GOOD if len(GOOD[name]) > 100]
    for number in range(count):
        data = bytearray(GOOD[kinds[number % len(kinds)]])
        for place in random.integers(len(data), size=1 + number % 20):
            data[place] = random.integers(256)
        try:
            assert decode_upload(written(tmp_path, data)).dtype == np.uint8
        except UploadError as error:
            assert str(tmp_path) not in str(error)
