"""Recommend products that look alike: photos to vectors to neighbours, and how good they are."""

import importlib
import os

# Read by Keras and TensorFlow when they are first imported; none of them is here.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.1.0"


def lazy_exports(room, **modules):
    """`__getattr__` and `__all__` of a room: each name, and the module it is imported from when it
    is asked for.
    """

    def exported(name):
        if name not in modules:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{room}.{modules[name]}"), name)

    return exported, sorted(modules)
