"""An encoder leaves the notebook: SavedModel, LiteRT, ONNX, OpenVINO.

It is written with its preprocessing inside, opened again, and compared with Keras.
"""

from lookalike import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    export_model="formats",
    open_export="formats",
    read_card="formats",
    compare_exports="compare",
)
