"""Cheap ways that may make vectors better, to be measured against leaving them as they are."""

import keras
import numpy as np
from sklearn.decomposition import PCA

from lookalike.similarity import normalise


def mirrored(encoder):
    """An encoder that averages the vectors of a photo and of its mirror image; it takes twice as
    long.
    """
    image = keras.Input(encoder.input_shape[1:], name="image")
    mirror_image = keras.ops.flip(image, axis=2)
    both = [encoder(image), encoder(mirror_image)]
    average = keras.layers.Average()(both)
    return keras.Model(image, average, name=f"{encoder.name}-mirrored")


def project(vectors, gallery, dim, *, whiten=False):
    """Vectors [n, dim] along the directions in which the gallery spreads most, by principal
    component analysis.

    Source: Jégou and Chum, "Negative Evidences and Co-occurrences in Image Retrieval: the Benefit
    of PCA and Whitening", ECCV 2012.

    Parameters
    ----------
    vectors : array [n, dim of the encoder]
        Taken at length 1.
    gallery : bool or int [..]
        Which of them the directions are learnt from: never the queries.
    dim
        How many directions are kept, at most as many as the gallery has vectors.
    whiten
        Scale each direction to the same spread.
    """
    vectors = normalise(vectors)
    pca = PCA(dim, whiten=whiten, random_state=0)
    pca.fit(vectors[gallery])
    return pca.transform(vectors).astype(np.float32)


def expanded(vectors, ranking, count):
    """Query expansion: each query becomes the mean of itself and its first `count` results, all
    taken at length 1.

    Source: Chum and others, "Total Recall: Automatic Query Expansion with a Generative Feature
    Model for Object Retrieval", ICCV 2007; here without a check of the results.

    Returns
    -------
    array [n, dim], for `rank` as `query_vectors`; rows that are no query are as they were.
    """
    unit = normalise(vectors)
    asked = np.array(vectors)
    for row, results in zip(ranking.queries, ranking.results, strict=True):
        first = results[:count]
        found = first[first >= 0]
        asked[row] = unit[[row, *found]].mean(axis=0)
    return asked
