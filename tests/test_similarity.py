import numpy as np
import pandas as pd
import pytest

from lookalike.embeddings import embed_catalog
from lookalike.images import load_image
from lookalike.similarity import METRICS, recommend, recommend_all


@pytest.fixture
def store(encoder, catalog, tmp_path):
    return embed_catalog(encoder, catalog, tmp_path / "store")


def test_recommend_by_image_id_leaves_the_image_out_and_its_product_when_asked(store):
    table = recommend(store, "004.png", 11)
    assert list(table.columns[:3]) == ["rank", "score", "image_id"]
    assert sorted(table["image_id"]) == sorted(set(store.catalog["image_id"]) - {"004.png"})
    assert list(table["rank"]) == list(range(1, 12))
    assert table["score"].is_monotonic_decreasing
    others = recommend(store, "004.png", 11, other_products=True)
    assert len(others) == 10
    assert "product-2" not in set(others["product_id"])


@pytest.mark.parametrize("metric", METRICS)
def test_path_pixels_and_vector_of_a_stored_photo_find_it_first(store, encoder, metric):
    row = store.catalog.iloc[7]
    queries = [row["path"], load_image(row["path"]), store.vectors[7]]
    tables = [recommend(store, query, 3, encoder=encoder, metric=metric) for query in queries]
    for table in tables:
        assert table["image_id"][0] == row["image_id"]
        assert table["score"][0] == pytest.approx(1 if metric == "cosine" else 0, abs=1e-4)
        assert list(table["image_id"]) == list(tables[0]["image_id"])


def test_a_query_of_another_encoder_is_refused_naming_both(store, encoder, other_encoder):
    with pytest.raises(ValueError, match=r"VGG16Slim-avg-untrained \(\w{16}\).*VGG16Slim-max-untrained \(\w{16}\)"):
        recommend(store, store.catalog["path"][0], encoder=other_encoder)
    with pytest.raises(ValueError, match=r"5 dimensions.*VGG16Slim-avg.*128"):
        recommend(store, np.ones(5, np.float32))


def test_queries_that_cannot_be_answered_say_why(store, encoder):
    with pytest.raises(FileNotFoundError, match="neither an image_id"):
        recommend(store, "nothing.jpg", encoder=encoder)
    with pytest.raises(ValueError, match="needs encoder="):
        recommend(store, store.catalog["path"][0])
    with pytest.raises(ValueError, match="other_products"):
        recommend(store, store.vectors[0], other_products=True)


def test_recommend_all_agrees_with_recommend(store):
    everything = recommend_all(store, 4)
    assert len(everything) == 4 * len(store.catalog)
    for image_id, group in everything.groupby("image_id"):
        single = recommend(store, image_id, 4, other_products=True)
        assert list(group["recommended_image_id"]) == list(single["image_id"])
        assert list(group["rank"]) == [1, 2, 3, 4]
        np.testing.assert_array_equal(group["score"], single["score"])
    assert isinstance(everything, pd.DataFrame)


def test_a_catalogue_may_have_columns_of_the_same_names(encoder, catalog, tmp_path):
    store = embed_catalog(encoder, catalog.assign(score="4 stars"), tmp_path / "store")
    table = recommend(store, "004.png", 3)
    assert table["score"].dtype == np.float32
    assert list(table["catalog_score"]) == ["4 stars"] * 3
