"""A model as a file that runs without Keras: SavedModel, LiteRT, ONNX or OpenVINO."""

import json
import os
import shutil
import sys
import threading
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.machine import quiet_stderr, require
from lookalike.workspace import replaced, sole_writer

# Else ONNX Runtime reports to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
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
# What runs it, and what writes it beside Keras and TensorFlow.
ENGINES = {"litert": ["ai-edge-litert"], "onnx": ["onnxruntime"], "openvino": ["openvino"]}
CONVERTERS = {"onnx": ["onnx<1.23", "tf2onnx"]}
FEWEST = 32  # photos to calibrate with; of fewer, the ranges of the activations are chance


def check_installed(*formats):
    """Refuse formats that are unknown, or for which packages are missing, before time is spent.

    Raises
    ------
    ImportError
        The message has the line that installs what is missing, to write them and to run them.
    ValueError
        If there is no such format.
    """
    needed = []
    for format in formats:
        kind = _known(format)[0]
        needed += CONVERTERS.get(kind, []) + ENGINES.get(kind, [])
    require(*dict.fromkeys(needed))


def _known(format):
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {format!r}.")
    return FORMATS[format]


def export_model(model, folder, format, *, photos=None, **card):
    """Write a model in another format into a folder of its own, with a card; whole or not at all.

    Preprocessing is a part of the model and goes with it: the export takes what the model takes,
    RGB float32 0 to 255, [batch, height, width, 3]. It is opened and tried before it is kept.

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
        If the format is unknown, `photos` are missing, too few or of another size, or what was
        written does not run: not every engine has every operation.
    """
    check_installed(format)
    folder = Path(folder).resolve()
    if folder.is_file() or (any(folder.glob("*")) and not (folder / CARD).is_file()):
        raise FileExistsError(f"{folder} is there and is no export; choose another folder.")
    kind, ending, options = FORMATS[format]
    size = model.input_shape[1:]
    if format == "litert-int8":
        if photos is None or len(photos) < FEWEST or photos.shape[1:] != size:
            raise ValueError(
                f"litert-int8 is calibrated on at least {FEWEST} photos as uint8 "
                f"{[*model.input_shape]}; given are {np.shape(photos)}."
            )
        options = options | {
            "representative_dataset": lambda: (
                [photo[None].astype(np.float32)] for photo in photos
            )
        }
    card |= {
        "format": format,
        "name": model.name,
        "fingerprint": encoder_fingerprint(model),
        "input": list(size),
        "dim": model.output_shape[-1],
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
    text = json.dumps(card, indent=1, ensure_ascii=False)
    blank = np.zeros((1, *size), np.float32)
    with sole_writer(folder), replaced(folder) as fresh:
        # Nothing stays of the export that was there, which may be of another format.
        shutil.rmtree(fresh)
        fresh.mkdir()
        file = fresh / f"{STEM}{ending}"
        # Converters tell where they put their scratch files, and warn of what is no matter.
        with quiet_stderr(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model(blank, training=False)  # what was never called has no graph to export
            try:
                _write(model, file, kind, options)
                _open(file, kind)(blank)
            except OSError:  # such as of a full disk
                raise
            except Exception as error:  # converters and engines raise all kinds
                reason = str(error).strip().partition("\n")[0]
                raise ValueError(
                    f"{model.name} does not run as {format}; take another format. {reason}"
                ) from error
        (fresh / CARD).write_text(text, encoding="utf-8")
    return folder


def _write(model, file, kind, options):
    """One call of Keras, but for what two formats need besides."""
    if kind != "openvino":
        model.export(str(file), format=kind, verbose=False, **options)
    if kind == "onnx":
        import onnx

        # tf2onnx leaves an input where it has folded a constant, which engines then ask for.
        outputs = [output.name for output in onnx.load(file).graph.output]
        onnx.utils.extract_model(file, file, [model.input.name], outputs)
    if kind == "openvino":
        # By way of a SavedModel: straight from Keras, inner values of some networks become
        # outputs, and on Python 3.13 it fails.
        openvino = _import_openvino()
        saved = file.with_name("saved")
        model.export(str(saved), verbose=False)
        openvino.save_model(openvino.convert_model(saved), file, compress_to_fp16=False)
        shutil.rmtree(saved)


def read_card(folder):
    """What an export says of itself: format, name, fingerprint, input, dim, and what it was given.

    `FileNotFoundError` if there is none.
    """
    card = Path(folder, CARD)
    if not card.is_file():
        raise FileNotFoundError(
            f"No export at {folder}. Run 09_export.ipynb first, or `export_model`."
        )
    return json.loads(card.read_text(encoding="utf-8"))


def open_export(folder, *, precision="f32"):
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
    kind, ending, _ = _known(card["format"])
    require(*ENGINES.get(kind, []))
    with quiet_stderr():
        engine = _open(Path(folder, f"{STEM}{ending}"), kind, precision)
    lock = threading.Lock()

    def forward(pixels):
        # LiteRT would compute something from photos of any size.
        size = list(pixels.shape[1:])
        if size != card["input"]:
            raise ValueError(f"The export takes photos {card['input']}, not {size}.")
        if not len(pixels):
            return np.empty((0, card["dim"]), np.float32)
        with lock:  # LiteRT and OpenVINO answer one question at a time, or wrongly
            return engine(pixels.astype(np.float32))

    return forward


def _open(file, kind, precision="f32"):
    """A file as a function of float32 pixels, by its engine."""
    if kind == "openvino":
        options = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        compiled = _import_openvino().compile_model(file, "CPU", options)
        return lambda pixels: np.array(compiled(pixels)[0])
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda pixels: session.run(None, {name: pixels})[0]
    if kind == "litert":
        return _open_litert(file)
    loaded = tf.saved_model.load(str(file))
    return lambda pixels: loaded.serve(tf.constant(pixels)).numpy()


def _import_openvino():
    # Imported, it would report to its makers.
    sys.modules.setdefault("openvino_telemetry", None)
    import openvino

    return openvino


def _open_litert(file):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file), num_threads=os.cpu_count())
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]

    def forward(pixels):
        interpreter.resize_tensor_input(source, pixels.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(source, pixels)
        interpreter.invoke()
        return interpreter.get_tensor(target)

    return forward
