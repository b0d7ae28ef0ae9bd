"""The encoder as one compiled function of one shape, in the precision and by the engine that are
fastest here.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from lookalike.machine import quiet_stderr
from lookalike.workspace import Choice

# And OpenVINO's names for them.
PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
ENGINES = ("tensorflow", "openvino")
AGREEMENT = 0.999  # the least cosine to the vectors of float32 at which another precision is taken
WORTH_TIMING = 20  # seconds of work from which on it pays to look for a faster way
TIMED = 8  # photos
Forward = Callable[[np.ndarray], np.ndarray]


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def compile_encoder(
    encoder: keras.Model,
    *,
    precision: str = "float32",
    engine: str = "tensorflow",
    batch_size: int = 32,
) -> Forward:
    """An encoder as a function of uint8 pixels [n, height, width, 3] to float32 vectors [n, dim], n
    <= batch_size.

    Fewer than `batch_size` photos are filled up, so that all batches have one shape and vectors do
    not depend on n. Its weights are built in, as they are now, which lets the layers be fused. In a
    lower precision TensorFlow computes the backbone, or everything if there is no backbone inside;
    preprocessing, pooling and head stay in float32. OpenVINO lowers what it likes.

    Raises
    ------
    ValueError
        If the precision or the engine is unknown, or OpenVINO not installed.
    """
    if precision not in PRECISIONS or engine not in ENGINES:
        raise ValueError(
            f"precision must be one of {', '.join(PRECISIONS)} and engine one of {', '.join(ENGINES)}, or auto; "
            f"not {precision!r} and {engine!r}."
        )
    if engine == "openvino" and not has_openvino():
        raise ValueError(
            "OpenVINO is not installed; pip install openvino, or leave engine='tensorflow'."
        )
    model = (
        encoder
        if engine == "openvino" or precision == "float32"
        else _in_precision(encoder, f"mixed_{precision}")
    )
    signature = tf.TensorSpec([batch_size, *encoder.input_shape[1:]], tf.uint8)

    @tf.function(input_signature=[signature])
    def graph(pixels):
        return tf.cast(model(tf.cast(pixels, tf.float32), training=False), tf.float32)

    if engine == "openvino":
        # Imported, it would report what is converted to its makers.
        sys.modules.setdefault("openvino_telemetry", None)
        import openvino

        options = {"INFERENCE_PRECISION_HINT": PRECISIONS[precision], "PERFORMANCE_HINT": "LATENCY"}
        with quiet_stderr():
            concrete = graph.get_concrete_function()
            converted = openvino.convert_model(concrete, output=concrete.outputs[0].name)
            compiled = openvino.Core().compile_model(converted, "CPU", options)
        return lambda pixels: np.array(compiled(_filled(pixels, batch_size))[0])[: len(pixels)]
    with quiet_stderr():
        frozen = convert_variables_to_constants_v2(graph.get_concrete_function())
    return lambda pixels: frozen(tf.constant(_filled(pixels, batch_size)))[0].numpy()[: len(pixels)]


def _filled(pixels: np.ndarray, batch_size: int) -> np.ndarray:
    """Pixels with black photos behind them, `batch_size` in all."""
    missing = batch_size - len(pixels)
    return np.pad(pixels, [(0, missing), (0, 0), (0, 0), (0, 0)]) if missing > 0 else pixels


def _in_precision(model: keras.Model, policy: str) -> keras.Model:
    """A copy in which the backbone, or all layers if there is no model inside, computes in another
    precision.
    """
    nested = any(isinstance(layer, keras.Model) for layer in model.layers)

    def copied(layer: keras.Operation) -> keras.Operation:
        if isinstance(layer, keras.Model):
            return _in_precision(layer, policy)
        # Other operations follow what they are given.
        lowered = isinstance(layer, keras.layers.Layer) and not nested
        return type(layer).from_config(layer.get_config() | ({"dtype": policy} if lowered else {}))

    copy = keras.models.clone_model(model, clone_function=copied)
    copy.set_weights(model.get_weights())
    return copy


def images_per_second(encoder: keras.Model, pixels: np.ndarray, *, runs: int = 3) -> float:
    """How fast the forward pass alone is on a batch of uint8 pixels [n, height, width, 3], in
    float32; the best run.
    """
    forward = compile_encoder(encoder, batch_size=len(pixels))
    times = []
    for _ in range(runs + 1):  # the first also prepares
        start = time.perf_counter()
        forward(pixels)
        times.append(time.perf_counter() - start)
    return len(pixels) / min(times[1:])


def choose_engine(
    encoder: keras.Model,
    pixels: np.ndarray,
    n_images: int,
    *,
    precision: str = "auto",
    engine: str = "auto",
) -> tuple[str, str, Choice]:
    """Time a few photos in each precision and engine that could be had, and take the fastest.

    On CPUs these are float32 and bfloat16, by TensorFlow and, if it is installed, by OpenVINO; on
    GPUs float32 and float16. One whose vectors stray from those of float32 is not taken. For work
    of a few seconds only the first is timed.

    Parameters
    ----------
    pixels : uint8 [n, height, width, 3], photos of the catalogue
    n_images
        How many there are to compute.
    precision, engine
        "auto", or a name that is kept to.

    Returns
    -------
    Precision, engine, and the choice in words. What is raised is that of `compile_encoder`.
    """
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    precisions = (
        ["float32", "float16" if on_gpu else "bfloat16"] if precision == "auto" else [precision]
    )
    engines = list(ENGINES[: 1 + (not on_gpu and has_openvino())]) if engine == "auto" else [engine]
    pixels = np.concatenate([pixels] * TIMED)[: len(pixels) if on_gpu else TIMED]
    candidates = [(precision, engine) for engine in engines for precision in precisions]
    speeds: dict[tuple[str, str], float] = {}
    reference = None
    refused = []
    for candidate in candidates:
        forward = compile_encoder(
            encoder, precision=candidate[0], engine=candidate[1], batch_size=len(pixels)
        )
        vectors = forward(pixels)
        reference = vectors if reference is None else reference
        if candidate != candidates[0] and not _agree(vectors, reference):
            refused.append(f"; {' by '.join(candidate)} is refused, its vectors stray")
            continue
        start = time.perf_counter()
        forward(pixels)
        speeds[candidate] = len(pixels) / (time.perf_counter() - start)
        if n_images / speeds[candidate] < WORTH_TIMING:
            break
    best = max(speeds, key=speeds.get)
    rates = ", ".join(f"{speed:.0f} in {' by '.join(pair)}" for pair, speed in speeds.items())
    short = (
        f"; {n_images} photos take seconds, no need to compare more"
        if len(speeds) + len(refused) < len(candidates)
        else ""
    )
    return *best, Choice(
        "precision", " by ".join(best), f"images/s here: {rates}{''.join(refused)}{short}"
    )


def _agree(vectors: np.ndarray, reference: np.ndarray) -> bool:
    """Whether all vectors are finite and point where the reference does; what is zero in one must
    be so in both.
    """
    lengths = [np.linalg.norm(each, axis=1) for each in (vectors, reference)]
    alike = (vectors * reference).sum(axis=1) >= AGREEMENT * lengths[0] * lengths[1]
    return bool(
        np.isfinite(vectors).all() and (alike & ((lengths[0] > 0) == (lengths[1] > 0))).all()
    )
