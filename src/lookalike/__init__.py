"""Recommend products that look alike: photos to vectors, vectors to neighbours, and how good they are."""

import os

from lookalike.workspace import quiet_stderr

# Read by TensorFlow and Keras when they are first imported, so they are set here, before any module does that.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

with quiet_stderr():
    import tensorflow  # noqa: F401

__version__ = "0.1.0"
