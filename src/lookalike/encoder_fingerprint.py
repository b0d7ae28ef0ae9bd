"""Which encoder is it: a hash of what decides an encoder's output, and nothing else."""

import hashlib
import json

import numpy as np

# What a configuration says that decides no output, and what comes and goes between Keras releases.
_INDIFFERENT = {
    "name",
    "trainable",
    "dtype",
    "module",
    "registered_name",
    "build_config",
    "momentum",
    "renorm_momentum",
    "sparse",
    "ragged",
    "optional",
    "autocast",
    "seed",
    "batch_shape",
    "batch_input_shape",
}


def encoder_fingerprint(encoder):
    """A hash of architecture and weights, 16 hexadecimal digits; encoders of different fingerprint
    are not to be mixed.

    It survives saving, reloading and another process; names of layers and training settings do not
    count.
    """
    parts = [encoder.input_shape, _architecture(encoder.get_config(), {})]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    for array in encoder.get_weights():
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array, np.float32).data)
    return digest.hexdigest()[:16]


def _architecture(node, places):
    """A Keras configuration without what decides no output; layers are called by their place, not
    by their name.
    """
    if isinstance(node, (list, tuple)):
        return [_architecture(item, places) for item in node]
    if not isinstance(node, dict):
        return node
    # A model, at any depth; the layers of a keras.Sequential are called by nobody, and unnamed.
    if "layers" in node:
        places = {layer.get("name"): place for place, layer in enumerate(node["layers"])}
    kept = {}
    for key, value in node.items():
        if key in ("keras_history", "input_layers", "output_layers"):
            kept[key] = [places.get(part, part) for part in np.ravel(value).tolist()]
        elif key in _INDIFFERENT or key.endswith("_initializer"):
            continue
        elif value is not None and value is not False:
            kept[key] = _architecture(value, places)
    return kept
