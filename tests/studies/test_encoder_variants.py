import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from conftest import small_classifier
from lookalike.backbones import embedding_encoder
from lookalike.embeddings import compile_encoder, embed_images
from lookalike.encoder_fingerprint import encoder_fingerprint
from lookalike.evaluation import Ranking, rank
from lookalike.images import load_image
from lookalike.saving import load_model, save_model
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


def test_a_mirrored_encoder_is_an_encoder_like_any_other(encoder, tmp_path):
    both = mirrored(encoder)
    assert both.name == f"{encoder.name}-mirrored"
    assert both.input_shape == encoder.input_shape
    assert both.output_shape == encoder.output_shape
    assert (
        encoder_fingerprint(both)
        == encoder_fingerprint(mirrored(encoder))
        != encoder_fingerprint(encoder)
    )
    save_model(both, tmp_path / "mirrored.keras", {})
    loaded, _ = load_model(tmp_path / "mirrored.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    expected = both(pixels.astype(np.float32)).numpy()
    np.testing.assert_array_equal(loaded(pixels.astype(np.float32)), expected)
    np.testing.assert_allclose(compile_encoder(both)(pixels), expected, rtol=1e-4, atol=1e-4)


def test_a_trained_encoder_can_be_mirrored():
    trained = embedding_encoder(small_classifier())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    expected = (trained(pixels).numpy() + trained(pixels[:, :, ::-1]).numpy()) / 2
    np.testing.assert_allclose(mirrored(trained)(pixels), expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(8, 40),
    d=st.integers(2, 7),
    dim=st.integers(1, 7),
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
    kept = min(dim, d)
    expected = (unit - unit[:n].mean(axis=0)) @ directions[:, ::-1][:, :kept]
    expected /= np.sqrt(values[::-1][:kept]) if whiten else 1
    assert result.dtype == np.float32
    assert result.shape == (n + 5, kept)
    signs = np.sign((result * expected).sum(axis=0))  # an eigenvector may point either way
    np.testing.assert_allclose(result * signs, expected, atol=1e-3 * np.abs(expected).max())


def test_projection_agrees_with_scikit_learn_on_a_mask_of_the_gallery():
    vectors = some_vectors(60, 9)
    gallery = np.arange(60) % 3 > 0
    pca = PCA(4, svd_solver="full").fit(normalize(vectors[gallery]))
    expected = pca.transform(normalize(vectors))
    result = project(vectors, gallery, 4)
    np.testing.assert_allclose(
        result * np.sign((result * expected).sum(axis=0)), expected, atol=1e-4
    )
    np.testing.assert_array_equal(project(vectors, np.flatnonzero(gallery), 4), result)
    np.testing.assert_array_equal(project(vectors, pd.Series(gallery), 4), result)


def test_a_whitened_gallery_spreads_alike_along_all_directions():
    vectors = some_vectors(80, 6)
    result = project(vectors, np.arange(50), 6, whiten=True)[:50]
    np.testing.assert_allclose(np.cov(result, rowvar=False), np.eye(6), atol=1e-3)
    plain = project(vectors, np.arange(50), 6)[:50]
    covariance = np.cov(plain, rowvar=False)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-5)
    assert (np.diff(np.diag(covariance)) < 0).all()


@pytest.mark.parametrize("whiten", [False, True])
def test_queries_have_no_say_in_the_directions(whiten):
    vectors = some_vectors(40, 6)
    other = vectors.copy()
    other[30:] = 100 * some_vectors(10, 6, seed=1)[:, ::-1]
    one, two = (project(each, np.arange(30), 3, whiten=whiten) for each in (vectors, other))
    np.testing.assert_array_equal(one[:30], two[:30])
    assert np.abs(one[30:] - two[30:]).max() > 0.1
    np.testing.assert_array_equal(project(other, np.arange(40), 3)[:30].shape, one[:30].shape)
    assert np.abs(project(other, np.arange(40), 3, whiten=whiten)[:30] - one[:30]).max() > 0.01


def test_vectors_are_projected_at_length_one():
    vectors = some_vectors(30, 5)
    lengths = np.random.default_rng(0).uniform(0.1, 50, (30, 1)).astype(np.float32)
    np.testing.assert_allclose(
        project(vectors * lengths, np.arange(20), 3), project(vectors, np.arange(20), 3), atol=1e-4
    )


@pytest.mark.parametrize(
    ("gallery", "dim", "kept"), [(20, 99, 6), (4, 6, 3), (2, 6, 1), (20, 6, 6)]
)
def test_no_more_directions_are_kept_than_the_gallery_has(gallery, dim, kept):
    assert project(some_vectors(25, 6), np.arange(gallery), dim).shape == (25, kept)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [30, 200])
def test_directions_along_which_the_gallery_does_not_spread_are_not_blown_up_by_whitening(n, dtype):
    vectors = np.abs(some_vectors(n + 10, 8)).astype(dtype)
    vectors[:, 2] = 0  # what a ReLU that is never reached leaves
    vectors[:, 5] = vectors[:, 4]
    vectors[n:, 2] = 0.5
    result = project(vectors, np.arange(n), 8, whiten=True)
    assert result.shape == (n + 10, 6)
    np.testing.assert_allclose(np.cov(result[:n], rowvar=False), np.eye(6), atol=1e-2)
    assert np.abs(result).max() < 20


def test_a_query_is_expanded_to_the_mean_of_itself_and_its_first_results():
    vectors = np.array([[2, 0], [0, 5], [3, 4], [-1, 0]], np.float32)
    asked = expanded(vectors, found([[2, 1], [0, 2]], [0, 1]), 1)
    np.testing.assert_allclose(asked[0], [(1 + 0.6) / 2, (0 + 0.8) / 2], rtol=1e-6)
    np.testing.assert_allclose(asked[1], [(0 + 1) / 2, (1 + 0) / 2], rtol=1e-6)
    asked = expanded(vectors, found([[2, 1], [0, 2]], [0, 1]), 2)
    np.testing.assert_allclose(asked[0], [(1 + 0.6 + 0) / 3, (0 + 0.8 + 1) / 3], rtol=1e-6)
    assert asked.dtype == np.float32


def test_rows_that_are_no_query_are_as_they_were():
    vectors = np.array([[2, 0], [0, 5], [3, 4], [-1, 0]], np.float32)
    before = vectors.copy()
    asked = expanded(vectors, found([[2], [3]], [1, 3]), 1)
    np.testing.assert_array_equal(asked[[0, 2]], vectors[[0, 2]])
    np.testing.assert_array_equal(vectors, before)
    np.testing.assert_allclose(asked[3], [(-1 - 1) / 2, 0])


def test_results_that_are_missing_do_not_count():
    vectors = np.array([[1, 0], [0, 1], [0, 7]], np.float32)
    asked = expanded(vectors, found([[1, -1, -1], [-1, -1, -1]], [0, 2]), 3)
    np.testing.assert_allclose(asked[0], [0.5, 0.5])
    np.testing.assert_allclose(asked[2], [0, 1])


def test_no_results_leave_a_query_where_it_points():
    vectors = some_vectors(10, 4)
    asked = expanded(vectors, found([[1, 2]] * 10, range(10)), 0)
    np.testing.assert_allclose(asked, normalize(vectors), rtol=1e-6)


def test_expanded_queries_find_what_lies_amid_their_first_results():
    # Seen from the query, 2 is a little nearer than 3; seen from the query and 1 together, 3 is.
    angles = np.deg2rad([0, 20, -29, 30])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    catalog = pd.DataFrame({"product_id": range(4), "label": ["a", "a", "b", "a"]})
    ranking = rank(vectors, catalog, 2, queries=[0])
    assert ranking.results.tolist() == [[1, 2]]
    again = rank(vectors, catalog, 2, queries=[0], query_vectors=expanded(vectors, ranking, 1))
    assert again.results.tolist() == [[1, 3]]
