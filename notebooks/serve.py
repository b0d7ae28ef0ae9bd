"""Recommendations over HTTP from an exported encoder and its store: no TensorFlow, no Keras.

pip install numpy pandas pillow onnxruntime psutil tqdm filelock
python serve.py EXPORT STORE [--port 8000] [--colour 0.3] [-k 5]
curl --data-binary @photo.jpg localhost:8000
"""

import argparse
import json
import os
import sys
from pathlib import Path
from wsgiref.simple_server import make_server

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # else it reports to its makers
import onnxruntime

from lookalike.colour import colour_histogram, join
from lookalike.embeddings import open_store
from lookalike.images import fitted
from lookalike.similarity import normalise, top_k

LARGEST = 10_000_000  # bytes of a photo
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("export", type=Path, help="a folder that export_model wrote, as ONNX")
parser.add_argument("store", type=Path, help="a folder that embed_catalog wrote")
parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
parser.add_argument("--colour", type=float, default=0.0, help="its weight, from 0 to 1")
parser.add_argument("-k", type=int, default=5, help="how many images an answer has")
options = parser.parse_args()

try:
    store = open_store(options.store)
    card = json.loads((options.export / "card.json").read_text("utf-8"))
except (OSError, ValueError) as error:
    sys.exit(str(error))
if (card["format"], card["fingerprint"]) != ("onnx", store.manifest["fingerprint"]):
    sys.exit(f"{options.export} must be the encoder of {options.store}, as ONNX.")
if not 0 <= options.colour <= 1 or options.k < 1:
    sys.exit("The weight of colour must be from 0 to 1, and k at least 1.")
session = onnxruntime.InferenceSession(
    options.export / "model.onnx", providers=["CPUExecutionProvider"]
)
gallery, metric, lengths = store.vectors, "cosine", store.lengths
if options.colour:
    gallery, metric, lengths = store.joined, "product", np.full(len(store.joined), 2**0.5)


def recommend(photo):
    """The k images of the store most like a photo, given as the bytes of a file."""
    pixels = fitted(photo, card["input"][:2], fit=store.manifest["fit"])
    query = session.run(None, {session.get_inputs()[0].name: np.float32(pixels)[None]})[0]
    if options.colour:
        query = join(normalise(query), colour_histogram(pixels)[None], options.colour)
    rows, scores = top_k(
        query, gallery, min(options.k, len(gallery)), metric=metric, lengths=lengths
    )
    names = store.catalog["image_id"].iloc[rows[0]]
    pairs = zip(names, scores[0].tolist(), strict=True)
    return [{"image_id": name, "score": score} for name, score in pairs]


def answer(request, start):
    """A WSGI application: the body of a request is a photo, that of the answer JSON."""
    try:
        length = int(request["CONTENT_LENGTH"] or 0)
        if not 0 < length <= LARGEST:
            raise ValueError(f"Send a photo of at most {LARGEST:,} bytes.")
        status, told = "200 OK", recommend(request["wsgi.input"].read(length))
    except ValueError as error:  # what is no photo is an ImageError, one of them
        status, told = "400 Bad Request", {"error": str(error)}
    start(status, [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]


server = make_server("127.0.0.1", options.port, answer)
print(f"Listening at http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
