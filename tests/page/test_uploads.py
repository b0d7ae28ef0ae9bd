"""Uploads are opened by another process: every good photo arrives, and nothing else does harm."""

import sys
import time

import numpy as np
import psutil
import pytest
from hostile import BAD, GOOD, SLOW, picture, saved
from PIL import Image

from lookalike.images import load_image
from lookalike.page.uploads import SIDE, UploadError, decode_upload
from test_odd_images import heic

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
# What was meant to do harm lies beside their pixels.
HARMLESS = {"PNG, a text behind it", "icon with a large picture", "JPEG, 300 passes"}


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


BIG = {
    "48 megapixels": lambda: saved(picture(size=(8064, 6048)), "JPEG", quality=90),
    "50 megapixels, PNG": lambda: saved(picture(size=(8160, 6144)), "PNG", compress_level=1),
    "12 megapixels, HEIC": lambda: heic(picture(size=(4032, 3024))),
    "25 MB": lambda: saved(picture(size=(900, 600)), "JPEG") + bytes(24_900_000),
}


@pytest.mark.parametrize("name", BIG)
def test_what_phones_send_arrives_small(name, tmp_path):
    found = decode_upload(written(tmp_path, BIG[name]()))
    assert max(found.shape[:2]) == SIDE
    whole = picture(size=found.shape[1::-1])
    assert np.abs(found.astype(int) - np.asarray(whole)).mean() < 6


@pytest.mark.parametrize("name", [*BAD, *SLOW])
def test_every_hostile_file_is_a_photo_or_a_sentence_in_time_and_costs_the_page_nothing(
    name, tmp_path
):
    file = written(tmp_path, {**BAD, **SLOW}[name])
    process = psutil.Process()
    before, begun = process.memory_info().rss, time.monotonic()
    try:
        assert max(decode_upload(file).shape) <= SIDE
        assert name in HARMLESS
    except UploadError as error:
        assert str(error).endswith((". Choose another.", ". Save it smaller."))
        assert str(tmp_path) not in str(error)
    assert time.monotonic() - begun < 6
    assert process.memory_info().rss - before < 200_000_000
    assert decode_upload(written(tmp_path, GOOD["PNG"])).shape == (36, 48, 3)


def test_a_worker_that_is_killed_is_replaced(tmp_path):
    file = written(tmp_path, GOOD["PNG"])
    decode_upload(file)
    for worker in psutil.Process().children():
        worker.kill()
        worker.wait()
    with pytest.raises(UploadError, match="takes too long, or too much memory"):
        decode_upload(file)
    assert decode_upload(file).shape == (36, 48, 3)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_a_worker_has_only_so_much_memory_and_no_tensorflow(tmp_path):
    decode_upload(written(tmp_path, GOOD["PNG"]))
    for worker in psutil.Process().children():
        assert worker.rlimit(psutil.RLIMIT_AS)[0] == 2_000_000_000
        assert not [one for one in worker.memory_maps() if "tensorflow" in one.path]


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
