"""Recommendations over HTTP from an exported encoder and its store, with neither TensorFlow nor
Keras.

pip install numpy pillow onnxruntime; python serve.py EXPORT STORE [PORT]; curl --data-binary
@photo.jpg localhost:8000
"""

import csv
import io
import json
import os
import sys
from pathlib import Path
from wsgiref.simple_server import make_server

import numpy as np
from PIL import Image, ImageOps

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # else the next line begins to take notes for its makers
import onnxruntime

if len(sys.argv) < 3:
    sys.exit(__doc__)
export, store, port = Path(sys.argv[1]), Path(sys.argv[2]), int((*sys.argv, 8000)[3])
card, manifest = (
    json.loads(path.read_text("utf-8")) for path in (export / "card.json", store / "manifest.json")
)
if (card["format"], card["fingerprint"], "resize", 1) != (
    "onnx",
    *map(manifest.get, ("fingerprint", "fit", "schema")),
):
    sys.exit(
        f"{export} must be the encoder of {store} as ONNX, and the store one of embed_catalog with fit='resize'."
    )
names = [
    row["image_id"]
    for row in csv.DictReader((store / "catalog.csv").open(encoding="utf-8", newline=""))
]
vectors = np.load(store / "vectors.npy")
vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
session = onnxruntime.InferenceSession(export / "model.onnx", providers=["CPUExecutionProvider"])


def recommend(photo, k=5):
    """The k images of the store most like a photo, given as the bytes of a file."""
    image = Image.open(io.BytesIO(photo), formats=["JPEG", "PNG", "WEBP"])
    image.draft("RGB", (max(card["input"]),) * 2)  # a large JPEG is decoded no larger than needed
    image = ImageOps.exif_transpose(image).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    pixels = image.resize(card["input"][1::-1], Image.Resampling.BILINEAR)
    vector = session.run(None, {session.get_inputs()[0].name: np.float32(pixels)[None]})[0][0]
    scores = vectors @ (vector / max(np.linalg.norm(vector), 1e-30))
    return [
        {"image_id": names[row], "score": float(scores[row])}
        for row in np.argsort(-scores, kind="stable")[:k]
    ]


def answer(request, start):
    """A WSGI application: a photo is the body of a request, JSON that of the answer; for anything
    else it is a 500.
    """
    found = recommend(
        request["wsgi.input"].read(min(abs(int(request["CONTENT_LENGTH"] or 0)), 10_000_000))
    )
    start("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(found).encode()]


server = make_server("127.0.0.1", port, answer)  # port 0: any that is free
print(f"Listening at http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
