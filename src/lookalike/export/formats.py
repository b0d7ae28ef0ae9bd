"""A model as a file that runs without Keras: SavedModel, LiteRT, ONNX or OpenVINO."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import warnings
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from lookalike.embeddings import Forward
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.machine import quiet_stderr, require
from lookalike.workspace import replaced, sole_writer

CARD = "card.json"
STEM = "model"
SMALLER = {"optimizations": [tf.lite.Optimize.DEFAULT]}
# The rest in float32.
WHOLE = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]}
# What each is called here: what Keras calls it, the file's ending, and what the converter is told.
FORMATS: dict[str, tuple[str, str, dict]] = {
    "saved_model": ("tf_saved_model", "", {}),
    "litert": ("litert", ".tflite", {}),
    "litert-float16": (
        "litert",
        ".tflite",
        SMALLER | {"target_spec": {"supported_types": [tf.float16]}},
    ),
    "litert-dynamic-int8": ("litert", ".tflite", SMALLER),
    "litert-int8": ("litert", ".tflite", SMALLER | {"target_spec": WHOLE}),
    "onnx": ("onnx", ".onnx", {}),
    "openvino": ("openvino", ".xml", {}),
}
# What runs it.
ENGINES = {"litert": ["ai-edge-litert"], "onnx": ["onnxruntime"], "openvino": ["openvino"]}
# What writes it, beside Keras and TensorFlow.
CONVERTERS = {"onnx": ["onnx<1.23", "tf2onnx"], "openvino": ["openvino"]}
FEWEST = 32  # photos to calibrate with; of fewer, the ranges of the activations are chance


def _known(format: str) -> tuple[str, str, dict]:
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {format!r}.")
    return FORMATS[format]


def check_installed(*formats: str) -> None:
    """Refuse formats that are unknown, or for which packages are missing, before time is spent on
    them.

    Raises
    ------
    ImportError
        The message has the line that installs what is missing, to write them and to run them.
    ValueError
        If there is no such format.
    """
    kinds = [_known(format)[0] for format in formats]
    require(
        *dict.fromkeys(
            name for kind in kinds for name in (*CONVERTERS.get(kind, ()), *ENGINES.get(kind, ()))
        )
    )


def export_model(
    model: keras.Model,
    folder: str | Path,
    format: str,
    *,
    photos: np.ndarray | None = None,
    **card: object,
) -> Path:
    """Write a model in another format into a folder of its own, with a card; whole or not at all.

    Preprocessing is a part of the model and goes with it: the export takes what the model takes,
    RGB float32 0 to 255, [batch, height, width, 3].

    Parameters
    ----------
    folder
        Made, or replaced if it holds an export.
    format
        "saved_model"; "litert", "litert-float16" (weights of 16 bits), "litert-dynamic-int8"
        (weights of 8 bits), "litert-int8" (activations too; input, output and what has no 8-bit
        form stay float32); "onnx"; "openvino".
    photos : uint8 [n, height, width, 3]
        For "litert-int8": what the ranges of the activations are taken from, at least 32, best a
        few hundred. Source: Jacob et al., "Quantization and Training of Neural Networks for
        Efficient Integer-Arithmetic-Only Inference", CVPR 2018.
    card
        What else `card.json` shall say, e.g. `labels`.

    Raises
    ------
    ImportError
        If a package is missing; the message has the line that installs it.
    FileExistsError
        If the folder holds something else than an export.
    ValueError
        If the format is unknown, or `photos` are missing, too few or of another size.
    """
    check_installed(format)
    folder = Path(folder).resolve()
    if folder.is_file() or (any(folder.glob("*")) and not (folder / CARD).is_file()):
        raise FileExistsError(f"{folder} is there and is no export; choose another folder.")
    kind, ending, options = FORMATS[format]
    if format == "litert-int8":
        if photos is None or len(photos) < FEWEST or photos.shape[1:] != model.input_shape[1:]:
            raise ValueError(
                f"litert-int8 is calibrated on at least {FEWEST} photos as uint8 "
                f"{[*model.input_shape]}; given are {np.shape(photos)}."
            )
        options = options | {
            "representative_dataset": lambda: ([photo[None].astype(np.float32)] for photo in photos)
        }
    card |= {
        "format": format,
        "name": model.name,
        "fingerprint": encoder_fingerprint(model),
        "input": list(model.input_shape[1:]),
        "dim": model.output_shape[-1],
        **{name: version(name) for name in ("tensorflow", "keras")},
    }
    text = json.dumps(card, indent=1, ensure_ascii=False)
    # Imported, it would report to its makers.
    sys.modules.setdefault("openvino_telemetry", None)
    with sole_writer(folder), replaced(folder) as fresh:
        # Nothing stays of the export that was there, which may be of another format.
        shutil.rmtree(fresh)
        fresh.mkdir()
        file = fresh / f"{STEM}{ending}"
        # As Keras wants it for ONNX.
        model(np.zeros((1, *model.input_shape[1:]), np.float32), training=False)
        # Converters tell where they put their scratch files, and warn of what is no matter.
        with quiet_stderr(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind == "openvino":
                # By way of a SavedModel: straight from Keras, inner values of some networks become
                # outputs, and on Python 3.13 it fails.
                import openvino

                model.export(str(fresh / "saved"), verbose=False)
                converted = openvino.convert_model(fresh / "saved")
                openvino.save_model(converted, file, compress_to_fp16=False)
                shutil.rmtree(fresh / "saved")
            else:
                model.export(str(file), format=kind, verbose=False, **options)
        if kind == "onnx":
            _drop_unused_inputs(file)
        (fresh / CARD).write_text(text, encoding="utf-8")
    return folder


def _drop_unused_inputs(file: Path) -> None:
    """Take out inputs that no node reads; tf2onnx leaves one where it has folded a constant.

    Refuse an operation that ONNX lacks, though tf2onnx writes it (its issue 2463).
    """
    import onnx

    model = onnx.load(file)
    if any(node.op_type == "Erfc" for node in model.graph.node):
        raise ValueError(
            "ONNX lacks Erfc, by which TensorFlow computes the exact GELU: take another format."
        )
    read = {name for node in model.graph.node for name in node.input}
    for value in [value for value in model.graph.input if value.name not in read]:
        model.graph.input.remove(value)
    onnx.checker.check_model(model)
    onnx.save(model, file)


def read_card(folder: str | Path) -> dict:
    """What an export says of itself: format, name, fingerprint, input, dim, and what else it was
    given.
    """
    card = _place(folder) / CARD
    if not card.is_file():
        raise FileNotFoundError(
            f"No export at {folder}. Run 09_export.ipynb first, or `export_model`."
        )
    return json.loads(card.read_text(encoding="utf-8"))


def _place(folder: str | Path) -> Path:
    """Where an export lies: aside, if a run was killed while another took its place."""
    folder = Path(folder).resolve()
    previous = folder.with_name(f".{folder.name}.previous")
    return previous if previous.exists() and not folder.exists() else folder


def open_export(folder: str | Path, *, precision: str = "f32") -> Forward:
    """An export as a function of uint8 or float32 pixels [n, height, width, 3] to float32 [n, dim],
    by its own engine.

    All cores are used; threads that share it wait for each other.

    Parameters
    ----------
    precision
        What OpenVINO computes in: "f32", or "bf16", which some processors do twice as fast.

    Raises
    ------
    FileNotFoundError
        If there is no export.
    ImportError
        If its engine is not installed; the message has the line that installs it.
    ValueError
        If the format is unknown; and from the function, if the photos are of another size.
    """
    card = read_card(folder)
    lock = threading.Lock()
    kind, ending, _ = _known(card["format"])
    require(*ENGINES.get(kind, ()))
    openers = {"tf_saved_model": _saved_model, "litert": _litert, "onnx": _onnx}
    file = str(_place(folder) / f"{STEM}{ending}")
    with quiet_stderr():
        engine = _openvino(file, precision) if kind == "openvino" else openers[kind](file)

    def forward(pixels: np.ndarray) -> np.ndarray:
        # LiteRT would compute something from photos of any size.
        size = list(pixels.shape[1:])
        if size != card["input"]:
            raise ValueError(f"The export takes photos {card['input']}, not {size}.")
        if not len(pixels):
            return np.empty((0, card["dim"]), np.float32)
        with lock:  # LiteRT and OpenVINO answer one question at a time, or wrongly
            return engine(pixels)

    return forward


def _saved_model(file: str) -> Forward:
    loaded = tf.saved_model.load(file)
    return lambda pixels: loaded.serve(tf.constant(pixels, tf.float32)).numpy()


def _litert(file: str) -> Forward:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(file, num_threads=os.cpu_count())
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]

    def forward(pixels: np.ndarray) -> np.ndarray:
        if tuple(interpreter.get_input_details()[0]["shape"]) != pixels.shape:
            interpreter.resize_tensor_input(source, pixels.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(source, pixels.astype(np.float32))
        interpreter.invoke()
        return interpreter.get_tensor(target)

    interpreter.allocate_tensors()
    return forward


def _onnx(file: str) -> Forward:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {name: pixels.astype(np.float32)})[0]


def _openvino(file: str, precision: str) -> Forward:
    import openvino

    options = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(file, "CPU", options)
    return lambda pixels: np.array(compiled(pixels.astype(np.float32))[0])
