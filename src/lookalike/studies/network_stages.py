"""What a network knows at which depth: the feature maps on the way, each pooled to a vector."""

import keras

from lookalike.backbones import inner_backbone


def stage_encoder(encoder):
    """An encoder that gives the averages of all its stages in one vector, and where in it each of
    them lies.

    A stage is what a network computes at one size of its feature maps. The last layer of that size
    stands for it, which in some networks is the first step of the next block. The last part is the
    encoder's own vector. Source of the idea: Zeiler and Fergus, "Visualizing and Understanding
    Convolutional Networks", ECCV 2014; Yosinski and others, "How transferable are features in deep
    neural networks?", NIPS 2014.

    Parameters
    ----------
    encoder
        As `build_encoder` or `embedding_encoder` made it.

    Returns
    -------
    keras.Model, the encoder's input to float32 [batch, sum of the parts], and {layer: columns},
    early to late; the last key is "vector".

    Raises
    ------
    ValueError
        If the encoder has none of the table's backbones inside.
    """
    backbone = inner_backbone(encoder)
    last = {}
    for layer in backbone.layers:
        # Padding has a size of its own.
        if isinstance(layer, keras.layers.ZeroPadding2D):
            continue
        shape = getattr(layer.output, "shape", ())
        # Not what is still pixels, nor "squeeze and excitation", which looks at the whole map as at
        # one place.
        is_map = len(shape) == 4 and shape[1] > 1 and shape[-1] > 3
        if is_map or layer is backbone.layers[-1]:
            last[shape[1]] = layer
    maps = keras.Model(backbone.input, [layer.output for layer in last.values()])
    # What the backbone is fed, by the preprocessing just before it.
    before = encoder.operations.index(backbone) - 1
    outputs = maps(encoder.operations[before].output, training=False)
    parts = {}
    for layer, output in zip(last.values(), outputs, strict=True):
        average = keras.layers.GlobalAveragePooling2D(dtype="float32")
        parts[layer.name] = average(output)
    vector = outputs[-1]
    after = encoder.layers.index(backbone) + 1
    for layer in encoder.layers[after:]:
        vector = layer(vector)
    parts["vector"] = vector
    columns = {}
    start = 0
    for name, part in parts.items():
        end = start + part.shape[-1]
        columns[name] = slice(start, end)
        start = end
    together = keras.layers.Concatenate()(list(parts.values()))
    stages = keras.Model(encoder.input, together, name=f"{encoder.name}-stages")
    return stages, columns
