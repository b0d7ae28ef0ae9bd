import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import normalize

from lookalike.embeddings import embed_images
from lookalike.evaluation import Ranking, rank
from lookalike.images import load_image
from lookalike.studies.encoder_variants import expanded, mirrored, project


def some_vectors(n, dim, seed=0):
    """Vectors that spread further along some directions than along others, not around zero."""
    random = np.random.default_rng(seed)
    return (random.normal(size=(n, dim)) * np.linspace(1, 3, dim) + 2).astype(np.float32)


def found(results, queries):
    """A ranking of which only the results count."""
    results = np.array(results)
    nothing = np.zeros(len(results), int)
    relevant = np.zeros(results.shape, bool)
    return Ranking(
        np.array(queries), results, relevant * 1.0, relevant, nothing, nothing, nothing, nothing
    )


def test_a_mirrored_encoder_cannot_tell_a_photo_from_its_mirror_image(encoder, catalog):
    both = mirrored(encoder)
    photos = [load_image(path) for path in catalog["path"][:5]]
    flipped = [np.ascontiguousarray(photo[:, ::-1]) for photo in photos]
    vectors = embed_images(both, photos)
    np.testing.assert_allclose(embed_images(both, flipped), vectors, rtol=1e-5, atol=1e-5)
    one, other = embed_images(encoder, photos), embed_images(encoder, flipped)
    np.testing.assert_allclose(vectors, (one + other) / 2, rtol=1e-4, atol=1e-4)
    assert np.abs(one - other).max() > 0.1
    upside_down = embed_images(both, [np.ascontiguousarray(photo[::-1]) for photo in photos])
    assert np.abs(upside_down - vectors).max() > 0.1


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(8, 40),
    d=st.integers(2, 7),
    dim=st.integers(1, 2),
    whiten=st.booleans(),
    seed=st.integers(0, 99),
)
def test_projection_is_that_onto_the_eigenvectors_of_the_covariance_of_the_gallery(
    n, d, dim, whiten, seed
):
    vectors = some_vectors(n + 5, d, seed)
    result = project(vectors, np.arange(n), dim, whiten=whiten)
    unit = normalize(vectors.astype(np.float64))
    values, directions = np.linalg.eigh(np.cov(unit[:n], rowvar=False))
    expected = (unit - unit[:n].mean(axis=0)) @ directions[:, ::-1][:, :dim]
    expected /= np.sqrt(values[::-1][:dim]) if whiten else 1
    assert result.dtype == np.float32
    assert result.shape == (n + 5, dim)
    signs = np.sign((result * expected).sum(axis=0))  # an eigenvector may point either way
    np.testing.assert_allclose(result * signs, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("whiten", [False, True])
def test_queries_have_no_say_in_the_directions(whiten):
    vectors = some_vectors(40, 6)
    other = vectors.copy()
    other[30:] = 100 * some_vectors(10, 6, seed=1)[:, ::-1]
    one, two = (project(each, np.arange(30), 3, whiten=whiten) for each in (vectors, other))
    np.testing.assert_array_equal(one[:30], two[:30])
    assert np.abs(one[30:] - two[30:]).max() > 0.1
    assert np.abs(project(other, np.arange(40), 3, whiten=whiten)[:30] - one[:30]).max() > 0.01


def test_a_query_is_expanded_to_the_mean_of_itself_and_its_first_results():
    vectors = np.array([[2, 0], [0, 5], [3, 4], [-1, 0]], np.float32)
    asked = expanded(vectors, found([[2, 1], [0, 2]], [0, 1]), 1)
    np.testing.assert_allclose(asked[0], [(1 + 0.6) / 2, (0 + 0.8) / 2], rtol=1e-6)
    np.testing.assert_allclose(asked[1], [(0 + 1) / 2, (1 + 0) / 2], rtol=1e-6)
    asked = expanded(vectors, found([[2, 1], [0, 2]], [0, 1]), 2)
    np.testing.assert_allclose(asked[0], [(1 + 0.6 + 0) / 3, (0 + 0.8 + 1) / 3], rtol=1e-6)
    assert asked.dtype == np.float32


def test_expanded_queries_find_what_lies_amid_their_first_results():
    # Seen from the query, 2 is a little nearer than 3; seen from the query and 1 together, 3 is.
    angles = np.deg2rad([0, 20, -29, 30])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    catalog = pd.DataFrame({"product_id": range(4), "label": ["a", "a", "b", "a"]})
    ranking = rank(vectors, catalog, 2, queries=[0])
    assert ranking.results.tolist() == [[1, 2]]
    again = rank(vectors, catalog, 2, queries=[0], query_vectors=expanded(vectors, ranking, 1))
    assert again.results.tolist() == [[1, 3]]
