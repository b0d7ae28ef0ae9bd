import functools
import importlib.util
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from conftest import quick
from lookalike import compiled_encoder
from lookalike.backbones import BACKBONES, build_classifier, build_encoder, embedding_encoder
from lookalike.compiled_encoder import choose_engine, compile_encoder
from lookalike.encoder_fingerprint import encoder_fingerprint

LAYERS = keras.layers
ENCODERS = [*BACKBONES, "with a trained head"]
# Imported here instead of by the code, it would bring along what the code keeps out.
needs_openvino = pytest.mark.skipif(
    not importlib.util.find_spec("openvino"), reason="OpenVINO is not installed"
)


@functools.cache
def encoder_of(name):
    if name not in BACKBONES:
        return embedding_encoder(
            build_classifier(build_encoder("VGG16Slim", weights=None, image_size=32), 3)
        )
    options = {"alpha": 0.35} if name == "MobileNetV2" else {}
    return build_encoder(name, weights=None, image_size=32, **options)


def some_pixels(count, size=32):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def vectors_of(encoder, pixels):
    return encoder(pixels.astype(np.float32), training=False).numpy()


def cosines(vectors, others):
    return (
        (vectors * others).sum(axis=1)
        / np.linalg.norm(vectors, axis=1)
        / np.linalg.norm(others, axis=1)
    )


def assert_same(vectors, expected):
    assert (vectors.dtype, vectors.shape) == (np.float32, expected.shape)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


# --- One compiled function
# -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", quick(ENCODERS, "VGG16Slim", "MobileNetV2", "with a trained head"))
def test_compiled_an_encoder_gives_the_same_vectors(name):
    pixels = some_pixels(3)
    assert_same(
        compile_encoder(encoder_of(name), batch_size=3)(pixels),
        vectors_of(encoder_of(name), pixels),
    )


@pytest.mark.parametrize(
    "name",
    quick(
        ["VGG16", "MobileNetV2", "EfficientNetV2B0", "with a trained head"],
        "MobileNetV2",
        "with a trained head",
    ),
)
def test_in_bfloat16_the_vectors_point_where_they_did(name):
    pixels = some_pixels(3)
    expected = vectors_of(encoder_of(name), pixels)
    vectors = compile_encoder(encoder_of(name), precision="bfloat16", batch_size=3)(pixels)
    assert vectors.dtype == np.float32
    assert cosines(vectors, expected).min() > 0.999
    assert np.abs(vectors - expected).max() > 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("engine", ["tensorflow", pytest.param("openvino", marks=needs_openvino)])
def test_a_batch_that_is_not_full_gives_the_same_vectors_as_in_a_full_one(engine):
    pixels = some_pixels(5)
    forward = compile_encoder(encoder_of("VGG16Slim"), engine=engine, batch_size=5)
    full = forward(pixels)
    for count in range(1, 5):
        np.testing.assert_array_equal(forward(pixels[:count]), full[:count])


@needs_openvino
@pytest.mark.parametrize("name", ["VGG16Slim", "EfficientNetV2B0", "with a trained head"])
def test_openvino_agrees_with_tensorflow(name):
    pixels = some_pixels(3)
    forward = compile_encoder(encoder_of(name), engine="openvino", batch_size=3)
    assert_same(forward(pixels), vectors_of(encoder_of(name), pixels))
    assert_same(forward(pixels[::-1]), vectors_of(encoder_of(name), pixels[::-1]))


@needs_openvino
def test_openvino_computes_in_bfloat16_too():
    encoder, pixels = encoder_of("VGG16Slim"), some_pixels(3)
    vectors = compile_encoder(encoder, precision="bfloat16", engine="openvino", batch_size=3)(
        pixels
    )
    assert vectors.dtype == np.float32
    assert cosines(vectors, vectors_of(encoder, pixels)).min() > 0.999


@needs_openvino
def test_openvino_reports_nothing_to_its_makers():
    compile_encoder(encoder_of("VGG16Slim"), engine="openvino", batch_size=1)
    assert not [
        name
        for name, module in sys.modules.items()
        if name.startswith("openvino_telemetry") and module
    ]


def with_backbone(backbone, preprocess):
    """An encoder that shows each photo's first pixel, as it comes out of the backbone."""
    image = keras.Input((2, 2, 3))
    return keras.Model(image, LAYERS.Flatten()(backbone(preprocess(image)))[:, :3])


def test_bfloat16_begins_behind_preprocessing_and_ends_before_the_pooling():
    inside = keras.Input((2, 2, 3))
    backbone = keras.Model(inside, LAYERS.Activation("linear")(inside))
    greys = np.arange(256, dtype=np.uint8)
    pixels = np.broadcast_to(greys[:, None, None, None], (256, 2, 2, 3)).copy()
    unchanged = compile_encoder(
        with_backbone(backbone, lambda image: image), precision="bfloat16", batch_size=256
    )
    np.testing.assert_array_equal(unchanged(pixels)[:, 0], greys)
    centred = with_backbone(backbone, keras.applications.vgg16.preprocess_input)
    vectors = compile_encoder(centred, precision="bfloat16", batch_size=256)(pixels)
    means = np.array([103.939, 116.779, 123.68])  # in bfloat16 they are 104, 117 and 123.5
    np.testing.assert_allclose(vectors, greys[:, None] - means, rtol=2**-8)

    image = keras.Input((2, 2, 3))
    summed = keras.Model(
        image, LAYERS.Dense(1, kernel_initializer="ones")(LAYERS.Flatten()(backbone(image)))
    )
    added = compile_encoder(summed, precision="bfloat16", batch_size=256)(pixels)
    # In bfloat16, 12 times 255 would be 3056.
    np.testing.assert_array_equal(added[:, 0], 12.0 * greys)


def flat_network():
    image = keras.Input((32, 32, 3))
    x = keras.applications.vgg16.preprocess_input(image)
    x = LAYERS.BatchNormalization()(LAYERS.Conv2D(8, 3, activation="relu")(x))
    return keras.Model(image, LAYERS.GlobalAveragePooling2D()(x))


def sequence_of_layers():
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            LAYERS.Rescaling(1 / 255),
            LAYERS.Conv2D(8, 3),
            LAYERS.GlobalMaxPooling2D(),
        ]
    )


def encoder_in_an_encoder():
    image = keras.Input((32, 32, 3))
    return keras.Model(
        image, LAYERS.Dense(5)(build_encoder("VGG16Slim", weights=None, image_size=32)(image))
    )


@pytest.mark.parametrize("make", [flat_network, sequence_of_layers, encoder_in_an_encoder])
def test_an_encoder_of_ones_own_need_not_have_one_backbone_inside(make):
    keras.utils.set_random_seed(0)
    encoder, pixels = make(), some_pixels(3)
    expected = vectors_of(encoder, pixels)
    assert_same(compile_encoder(encoder, batch_size=3)(pixels), expected)
    vectors = compile_encoder(encoder, precision="bfloat16", batch_size=3)(pixels)
    assert vectors.dtype == np.float32
    assert cosines(vectors, expected).min() > 0.999
    assert np.abs(vectors - expected).max() > 1e-5 * np.abs(expected).max()


def with_normalization():
    """A small backbone whose normalization has seen data, so that no two of its weights can be
    exchanged.
    """
    keras.utils.set_random_seed(0)
    inside, image = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    backbone = keras.Model(
        inside, LAYERS.ReLU()(LAYERS.BatchNormalization()(LAYERS.Conv2D(8, 3)(inside)))
    )
    random = np.random.default_rng(0)
    backbone.set_weights(
        [random.uniform(0.5, 1.5, array.shape) for array in backbone.get_weights()]
    )
    return keras.Model(
        image, LAYERS.GlobalAveragePooling2D()(backbone(LAYERS.Rescaling(1 / 255)(image)))
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiling_leaves_the_encoder_as_it_was_and_free_to_learn(precision, tmp_path):
    encoder, pixels = with_normalization(), some_pixels(4)
    layers = encoder._flatten_layers()
    before = (
        encoder.get_weights(),
        encoder.get_config(),
        [layer.dtype_policy.name for layer in layers],
    )
    graph = [len(layer._inbound_nodes) for layer in layers]
    fingerprint, expected = encoder_fingerprint(encoder), vectors_of(encoder, pixels)
    forward = compile_encoder(encoder, precision=precision, batch_size=4)
    vectors = forward(pixels)
    for array, old in zip(encoder.get_weights(), before[0], strict=True):
        np.testing.assert_array_equal(array, old)
    layers = encoder._flatten_layers()
    assert (encoder.get_config(), [layer.dtype_policy.name for layer in layers]) == before[1:]
    assert [len(layer._inbound_nodes) for layer in layers] == graph
    assert encoder_fingerprint(encoder) == fingerprint
    np.testing.assert_array_equal(vectors_of(encoder, pixels), expected)

    classifier = build_classifier(encoder, 2)
    classifier.compile(keras.optimizers.Adam(1.0), "categorical_crossentropy", run_eagerly=True)
    classifier.train_on_batch(pixels.astype(np.float32), np.eye(2)[[0, 1, 0, 1]])
    learned = vectors_of(encoder, pixels)
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.models.load_model(tmp_path / "encoder.keras", safe_mode=True)
    assert encoder_fingerprint(loaded) == encoder_fingerprint(encoder) != fingerprint
    np.testing.assert_array_equal(forward(pixels), vectors)  # with the weights it was compiled with
    anew = compile_encoder(encoder, precision=precision, batch_size=4)(pixels)
    assert cosines(anew, learned).min() > 0.999
    assert cosines(vectors, expected).min() > 0.999 > cosines(anew, expected).max()


def without(module):
    find_spec = importlib.util.find_spec
    return lambda name, *rest: None if name == module else find_spec(name, *rest)


@pytest.mark.parametrize(
    "options", [{"precision": "float64"}, {"engine": "onnx"}, {"precision": "auto"}], ids=str
)
def test_an_unknown_precision_or_engine_is_refused_naming_those_there_are(options):
    named = next(iter(options.values()))
    known = rf"float32, bfloat16, float16 .*tensorflow, openvino.* not .*'{named}'"
    with pytest.raises(ValueError, match=known):
        compile_encoder(encoder_of("VGG16Slim"), **options)


def test_openvino_that_is_not_installed_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(compiled_encoder.importlib.util, "find_spec", without("openvino"))
    with pytest.raises(ValueError, match=r"pip install openvino, or leave engine='tensorflow'"):
        compile_encoder(encoder_of("VGG16Slim"), engine="openvino")
    with pytest.raises(ValueError, match=r"pip install openvino"):
        choose_engine(encoder_of("VGG16Slim"), some_pixels(2), 10, engine="openvino")


# --- The fastest one
# -----------------------------------------------------------------------------------------------

F32, B16, F16 = (f"{precision} by tensorflow" for precision in ("float32", "bfloat16", "float16"))
F32_OV, B16_OV = (f"{precision} by openvino" for precision in ("float32", "bfloat16"))
SECONDS = {F32: 2.0, B16: 1.0, F16: 0.5, F32_OV: 0.8, B16_OV: 0.4}  # for the eight photos
UNIT = np.eye(8, 4, dtype=np.float32) + 1


class Machine:
    """A machine of known speeds, whose clock only forward passes advance."""

    def __init__(self, monkeypatch, *, with_openvino=True, gpus=()):
        self.clock, self.compiled, self.answers = 0.0, [], {}
        here = (lambda name: name == "openvino" or None) if with_openvino else without("openvino")
        monkeypatch.setattr(compiled_encoder.importlib.util, "find_spec", here)
        monkeypatch.setattr(
            compiled_encoder.tf.config, "list_physical_devices", lambda kind: list(gpus)
        )
        monkeypatch.setattr(
            compiled_encoder, "time", SimpleNamespace(perf_counter=lambda: self.clock)
        )
        monkeypatch.setattr(compiled_encoder, "compile_encoder", self.compile)

    def compile(self, encoder, *, precision, engine, batch_size):
        way = f"{precision} by {engine}"
        self.compiled.append(way)

        def forward(pixels):
            assert pixels.shape == (batch_size, 32, 32, 3)
            self.clock += SECONDS[way]
            return self.answers.get(way, UNIT)[:batch_size]

        return forward

    def choose(self, n_images=10_000, photos=8, **asked):
        precision, engine, choice = choose_engine(None, some_pixels(photos), n_images, **asked)
        assert choice.value == f"{precision} by {engine}"
        return choice.value, choice.reason


def test_the_fastest_way_is_taken_and_the_speed_of_each_told(monkeypatch):
    assert Machine(monkeypatch).choose() == (
        B16_OV,
        f"images/s here: 4 in {F32}, 8 in {B16}, 10 in {F32_OV}, 20 in {B16_OV}",
    )
    assert Machine(monkeypatch, with_openvino=False).choose() == (
        B16,
        f"images/s here: 4 in {F32}, 8 in {B16}",
    )
    assert Machine(monkeypatch, gpus=["GPU"]).choose() == (
        F16,
        f"images/s here: 4 in {F32}, 16 in {F16}",
    )


@pytest.mark.parametrize("photos", [1, 3, 8, 32])
def test_eight_photos_are_timed_however_many_there_are(monkeypatch, photos):
    assert Machine(monkeypatch).choose(photos=photos)[1].startswith(f"images/s here: 4 in {F32}")


@pytest.mark.parametrize(
    ("asked", "tried"),
    [
        ({"precision": "bfloat16"}, [B16, B16_OV]),
        ({"precision": "float16", "engine": "tensorflow"}, [F16]),
        ({"engine": "tensorflow"}, [F32, B16]),
        ({"engine": "openvino"}, [F32_OV, B16_OV]),
        ({"precision": "float32", "engine": "openvino"}, [F32_OV]),
    ],
    ids=str,
)
def test_what_is_asked_for_is_kept_to(monkeypatch, asked, tried):
    machine = Machine(monkeypatch)
    assert machine.choose(**asked)[0] == tried[-1]
    assert machine.compiled == tried


def turned(cosine):
    """The vectors, the last of them at an angle of this cosine to what it was."""
    vectors = UNIT.copy()
    # The last is the first of these, doubled.
    ahead, aside = (np.ones(4) / 2, np.array([1, -1, 1, -1]) / 2)
    vectors[-1] = 2 * (cosine * ahead + np.sqrt(1 - cosine**2) * aside)
    return vectors


@pytest.mark.parametrize(
    "vectors",
    [
        UNIT * [1, -1, 1, 1],
        turned(0.998),
        np.where(np.arange(8)[:, None] == 3, np.nan, UNIT),
        np.where(np.arange(8)[:, None] == 3, np.inf, UNIT),
        np.where(np.arange(8)[:, None] == 3, 0, UNIT),
    ],
    ids=["wrong", "astray in one", "not a number", "infinite", "zero"],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_way_whose_vectors_stray_is_not_taken(monkeypatch, vectors):
    machine = Machine(monkeypatch)
    machine.answers[B16] = machine.answers[B16_OV] = vectors.astype(np.float32)
    way, reason = machine.choose()
    assert way == F32_OV
    assert reason.startswith(
        f"images/s here: 4 in {F32}, 10 in {F32_OV}; {B16} is refused, its vectors stray; {B16_OV}"
    )


def test_vectors_of_almost_the_same_direction_and_empty_ones_do(monkeypatch):
    machine = Machine(monkeypatch, with_openvino=False)
    machine.answers[B16] = turned(0.9995)
    assert machine.choose()[0] == B16
    machine.answers = {way: np.zeros((8, 4), np.float32) for way in (F32, B16)}
    assert machine.choose()[0] == B16


def test_an_encoder_that_gives_no_numbers_at_all_is_kept_in_float32(monkeypatch):
    machine = Machine(monkeypatch)
    machine.answers = {way: np.full((8, 4), np.nan, np.float32) for way in SECONDS}
    assert machine.choose()[0] == F32


def test_for_work_of_seconds_no_other_way_is_looked_for(monkeypatch):
    machine = Machine(monkeypatch)
    assert machine.choose(n_images=79) == (
        F32,
        f"images/s here: 4 in {F32}; 79 photos take seconds, no need to compare more",
    )
    assert machine.compiled == [F32]
    machine = Machine(monkeypatch)  # 20 seconds in float32, 10 in bfloat16
    assert machine.choose(n_images=80)[0] == B16
    assert machine.compiled == [F32, B16]


def test_the_way_that_is_chosen_here_works():
    encoder, pixels = encoder_of("VGG16Slim"), some_pixels(5)
    precision, engine, choice = choose_engine(encoder, pixels, 10**9)
    ways = [way for way in SECONDS if way in choice.reason]
    assert {F32, choice.value} <= set(ways)
    vectors = compile_encoder(encoder, precision=precision, engine=engine, batch_size=5)(pixels)
    assert cosines(vectors, vectors_of(encoder, pixels)).min() > 0.999


def test_images_a_second_are_those_of_the_best_run(encoder, monkeypatch):
    # Begin and end of four runs, of which the first also prepares.
    seconds = iter([0, 9, 10, 14, 20, 22, 30, 33])
    monkeypatch.setattr(compiled_encoder.time, "perf_counter", lambda: next(seconds))
    assert compiled_encoder.images_per_second(encoder, some_pixels(6)) == 3
