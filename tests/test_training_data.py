import keras
import numpy as np
import pytest
from PIL import Image

from conftest import write_photo
from lookalike import training_data
from lookalike.backbones import build_classifier, frozen_and_trainable
from lookalike.images import load_image
from lookalike.training_data import Batches, augment, augmented_features, augmented_photos

SIZE = (32, 24)


@pytest.fixture
def paths(tmp_path):
    return [str(write_photo(tmp_path / f"{number}.png", number, size=60)) for number in range(7)]


def views_of(take, numbers, count):
    return np.stack([take(np.full(count, number), np.arange(count)) for number in numbers])


def test_view_0_is_the_photo_itself(paths):
    pixels = augmented_photos(paths, SIZE, seed=3)(np.zeros(7, int), np.arange(7))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, [load_image(path, SIZE) for path in paths])


def test_other_views_differ_and_come_again_by_the_seed(paths):
    shown = views_of(augmented_photos(paths, SIZE, seed=3), range(4), 7)
    assert shown.shape == (4, 7, *SIZE, 3)
    again = augmented_photos(paths, SIZE, seed=3)
    np.testing.assert_array_equal(
        again(np.array([2, 0, 3]), np.array([6, 1, 1])), shown[[2, 0, 3], [6, 1, 1]]
    )
    assert len({view.tobytes() for photo in shown.swapaxes(0, 1) for view in photo}) == 4 * 7
    other = views_of(augmented_photos(paths, SIZE, seed=4), range(4), 7)
    np.testing.assert_array_equal(other[0], shown[0])
    assert all(
        (other[number, index] != shown[number, index]).any()
        for number in (1, 2, 3)
        for index in range(7)
    )


@pytest.mark.parametrize("count", [7, 70])  # 64 photos are computed at once
def test_features_are_what_the_lower_half_gives_in_memory_as_in_a_file(
    encoder, paths, tmp_path, monkeypatch, count
):
    lower, _ = frozen_and_trainable(build_classifier(encoder, 2))
    take = augmented_photos([*paths * 10][:count], (32, 32), seed=1)
    in_memory = augmented_features(lower, take, count, 3, tmp_path / "features")
    assert not (tmp_path / "features").exists()
    monkeypatch.setattr(training_data, "IN_MEMORY", 0)
    in_file = augmented_features(lower, take, count, 3, tmp_path / "features")
    assert (tmp_path / "features").stat().st_size > 3 * count * 128 * 2
    numbers, indices = np.array([2, 0, 1, 1]), np.array([count - 1, 0, 3, count - 2])
    np.testing.assert_array_equal(in_memory(numbers, indices), in_file(numbers, indices))
    features = in_memory(numbers, indices)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, features.astype(np.float16))
    expected = lower(take(numbers, indices).astype(np.float32)).numpy()
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-3)


def numbered(numbers, indices):
    """A batch that tells which view of which photo it is made of."""
    return np.stack([numbers, indices], axis=1)


def epoch_of(batches):
    shown = [batches[index] for index in range(len(batches))]
    batches.on_epoch_end()
    return [np.concatenate(part) for part in zip(*shown, strict=True)]


def make_batches(seed=0, epoch=0, count=23, views=4):
    return Batches(numbered, np.eye(count), np.arange(count) / 10, views, 5, seed, epoch)


def test_an_epoch_shows_every_photo_once_with_its_target_and_weight():
    batches = make_batches()
    assert isinstance(batches, keras.utils.PyDataset)
    assert [len(batches[index][0]) for index in range(len(batches))] == [5, 5, 5, 5, 3]
    for _ in range(3):
        shown, targets, weights = epoch_of(batches)
        assert sorted(shown[:, 1]) == list(range(23))
        np.testing.assert_array_equal(targets, np.eye(23)[shown[:, 1]])
        np.testing.assert_array_equal(weights, shown[:, 1] / 10)


def test_each_epoch_has_another_order_and_another_view_and_all_views_come_in_turn():
    batches = make_batches()
    epochs = [epoch_of(batches)[0] for _ in range(8)]
    assert len({epoch[:, 1].tobytes() for epoch in epochs}) == 8
    numbers = np.array([epoch[np.argsort(epoch[:, 1]), 0] for epoch in epochs])  # [epoch, photo]
    for begin in range(5):
        np.testing.assert_array_equal(
            np.sort(numbers[begin : begin + 4], axis=0), np.arange(4)[:, None].repeat(23, 1)
        )
    assert len(set(numbers[0])) > 1  # photos do not all begin with the same view


def test_batches_come_again_by_seed_and_epoch():
    one, same = make_batches(), make_batches(epoch=2)
    for _ in range(2):
        epoch_of(one)
    np.testing.assert_array_equal(epoch_of(one)[0], epoch_of(same)[0])
    assert (epoch_of(make_batches(seed=1))[0] != epoch_of(make_batches())[0]).any()
    first = make_batches()
    np.testing.assert_array_equal(first[3][0], first[3][0])


# --- Augmented views
# -----------------------------------------------------------------------------------------------


def gradient(width, height):
    """Smooth colours, as in a photo: red grows to the right, green downwards, blue waves."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    wave = 0.5 + 0.5 * np.sin(7 * x) * np.cos(5 * y)
    return Image.fromarray((np.stack([x, y, wave], axis=2) * 255).astype(np.uint8))


def variant(pixels, seed=0, size=(48, 64)):
    return augment(pixels, size, np.random.default_rng(seed))


def test_a_variant_is_pixels_of_the_size_asked_for_and_comes_again_by_its_seed():
    photo = np.asarray(gradient(80, 60))
    before = photo.copy()
    for size in ((48, 64), (64, 48), (1, 1), (100, 30)):
        assert variant(photo, size=size).shape == (*size, 3)
        assert variant(photo, size=size).dtype == np.uint8
    np.testing.assert_array_equal(variant(photo, 7), variant(photo, 7))
    assert len({variant(photo, seed).tobytes() for seed in range(30)}) == 30
    np.testing.assert_array_equal(photo, before)


def test_variants_have_about_the_colours_of_their_photo():
    photo = np.asarray(gradient(80, 60))
    means = np.array([variant(photo, seed).mean(axis=(0, 1)) for seed in range(60)])
    original = photo.mean(axis=(0, 1))
    np.testing.assert_allclose(means.mean(axis=0), original, rtol=0.1)
    assert (np.abs(means / original - 1) < 0.5).all()


@pytest.mark.parametrize(
    "size", [(80, 60), (12, 200), (200, 12), (33, 33), (1, 1), (2, 2), (4, 4), (5, 8), (1, 9)]
)
def test_a_photo_of_one_grey_stays_so_up_to_brightness_with_nothing_black_beyond_its_edge(size):
    photo = np.full((*size, 3), 120, np.uint8)
    light = set()
    for seed in range(60):
        pixels = variant(photo, seed)
        assert len(np.unique(pixels)) == 1, f"seed {seed}: {np.unique(pixels)}"
        light.add(int(pixels.max()))
    assert 0.75 * 120 - 1 <= min(light) < 100
    assert 140 < max(light) <= 1.25 * 120 + 1


def test_a_photo_of_one_colour_stays_of_one_colour():
    for seed in range(20):
        pixels = variant(np.full((40, 40, 3), (200, 90, 30), np.uint8), seed)
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) == 1
        red, green, blue = pixels[0, 0]
        assert red > green > blue


def test_half_of_the_variants_are_mirrored_and_none_is_upside_down():
    photo = np.zeros((60, 60, 3), np.uint8)
    photo[:20, :20] = 255  # a white corner, top left
    corners = []
    for seed in range(60):
        pixels = variant(photo, seed, (60, 60))[..., 0].astype(float)
        quarters = [pixels[:30, :30], pixels[:30, 30:], pixels[30:, :30], pixels[30:, 30:]]
        corners.append(int(np.argmax([quarter.sum() for quarter in quarters])))
    assert set(corners) == {0, 1}
    assert 15 < corners.count(0) < 45
