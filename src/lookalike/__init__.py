"""Recommend products that look alike: photos to vectors to neighbours, and how good they are."""

import os

# Read by Keras and TensorFlow when they are first imported; nothing is imported here.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.1.0"
