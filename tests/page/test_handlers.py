import base64
import html as text
import io
import logging
import re
from pathlib import Path

import gradio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import PROJECT, make_catalog
from lookalike.embeddings import embed_catalog
from lookalike.page import Service
from lookalike.page.handlers import (
    BROKEN,
    MANY,
    MOST,
    NO_CAMERA,
    NO_PAIR,
    NO_QUERY,
    NO_UPLOAD,
    Handlers,
)


@pytest.fixture(scope="module")
def desk(page_store, encoder):
    return Handlers(Service(page_store, encoder))


def upload(seed=0, size=(90, 60), kind="PNG"):
    """A photo field's value, as the browser gives it."""
    coarse = np.random.default_rng(seed + 5000).integers(0, 256, (4, 5, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(stream, kind)
    return {
        "data": f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"
    }


def is_problem(html):
    return "lk-problem" in html


def ids_of(html, event):
    return re.findall(rf'data-event="{event}" data-id="([^"]*)"', html)


# --- What is asked and answered
# ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_an_upload_is_made_small_and_asked_with_again(desk, kind):
    sent = upload(kind=kind)
    kept = desk.accept(sent)
    assert kept["data"].startswith("data:image/png;base64,")
    assert "Your photo" in kept["html"]
    assert desk.accept(kept)["data"] == kept["data"]
    assert desk.find(kept, 5, "cosine", "") == desk.find(sent, 5, "cosine", "")
    assert desk.compare(kept, sent)[0] == desk.compare(kept, kept)[0]
    assert "<strong>1.000</strong>" in desk.compare(sent, kept)[0]


def test_a_photo_of_the_catalogue_is_chosen_by_its_name(desk):
    chosen = desk.accept({"id": "004.png"})
    assert chosen["id"] == "004.png"
    assert "c, product-2" in chosen["html"]
    assert desk.accept(chosen) == chosen
    results, why = desk.find(chosen, 4, "cosine", "")
    assert ids_of(results, "search") == desk.service.find("004.png", k=4)["image_id"].tolist()
    assert why == ""
    assert is_problem(desk.accept({"id": "nobody.png"})["html"])
    assert is_problem(desk.accept({"id": ""})["html"])


@pytest.mark.parametrize(
    ("k", "count"),
    [(1, 1), (0, 1), (-5, 1), (7, 7), (7.9, 7), ("3", 12), (24, MOST), (1000, MOST), (True, 1)],
)
def test_how_many_is_kept_in_bounds(desk, k, count):
    assert len(ids_of(desk.find({"id": "000.png"}, k, "cosine", "")[0], "search")) == count


@pytest.mark.parametrize("label", ["", None, [], 0, False])
def test_no_category_is_any(desk, label):
    assert desk.find({"id": "000.png"}, 5, "cosine", label) == desk.find(
        {"id": "000.png"}, 5, "cosine", ""
    )


def test_why_is_asked_of_a_result_and_a_photo(desk):
    for value, name in (
        ({"id": "000.png"}, "<figcaption>a, product-0<"),
        (upload(), "<figcaption>Your photo<"),
    ):
        html = desk.why("005.png", value)
        assert html.count("<img") == 4
        assert name in html
        assert "c, product-2" in html
    assert desk.why("005.png", None) == ""
    assert is_problem(desk.why("nobody.png", upload()))


def test_nothing_chosen_is_no_problem(desk):
    for value in (None, {}, {"html": "x"}, [], "x", 5):
        assert desk.accept(value) is None
        html, why = desk.find(value, 5, "cosine", "")
        assert text.unescape(re.search(r"<p[^>]*>(.*)</p>", html)[1]) == NO_QUERY
        assert why == ""
        assert desk.compare(value, {"id": "000.png"}) == desk.compare({"id": "000.png"}, value)
        assert NO_PAIR in desk.compare(value, value)[0]
        shown, html = desk.check(value)
        assert shown is None
        assert NO_UPLOAD in html


def test_a_camera_that_cannot_be_used_is_told(desk):
    assert NO_CAMERA in desk.accept({"camera": False})["html"]
    assert NO_CAMERA in desk.check({"camera": False})[0]["html"]


def test_a_file_that_was_too_large_to_send_is_told(desk):
    for told in (
        desk.accept({"bytes": 12_345_678})["html"],
        desk.check({"bytes": 12_345_678})[0]["html"],
    ):
        assert "12,345,678 bytes" in told
    assert desk.accept({"bytes": 10_000_000}) is None


def test_a_copy_is_found_among_the_photos(desk):
    file = Path(desk.service.catalog["path"].iloc[3])
    sent = {"data": "data:;base64," + base64.b64encode(file.read_bytes()).decode()}
    shown, html = desk.check(sent)
    assert shown["data"] == desk.accept(sent)["data"]
    assert "Already there" in html
    assert "the same file" in html
    shown, html = desk.check(upload())
    assert "data" in shown
    assert "New" in html
    shown, html = desk.check({"data": "data:image/png;base64,AAAA"})
    assert is_problem(shown["html"])
    assert NO_UPLOAD in html


def test_a_photo_that_went_has_a_sentence_and_no_path(tmp_path, encoder, caplog):
    store = embed_catalog(
        encoder, make_catalog(tmp_path / "photos", 6, views=2), tmp_path / "store"
    )
    desk = Handlers(Service(store, encoder))
    sent = upload()
    for path in store.catalog["path"]:
        Path(path).unlink()
    told = [
        desk.why("001.png", sent),
        *desk.compare({"id": "000.png"}, sent),
        *desk.find({"id": "000.png"}, 3, "cosine", ""),
        desk.check(sent)[1],
        desk.accept({"id": "000.png"})["html"],
        *map(str, desk.vote([["like", "000.png"]])),
    ]
    assert is_problem(told[0])
    assert is_problem(told[1])
    assert "gone from its folder" in told[0]
    for html in told:
        assert str(tmp_path) not in html
        assert BROKEN not in html
    assert not caplog.records


def test_a_fault_of_ours_has_a_sentence_without_a_trace(page_store, encoder, caplog):
    desk = Handlers(Service(page_store, encoder))
    desk.service.store = None
    html, why = desk.find({"id": "000.png"}, 5, "cosine", "")
    assert BROKEN in html
    assert "NoneType" not in html
    assert why == ""
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.records[0].exc_info


# --- Votes
# -------------------------------------------------------------------------------------------------------


def chosen(desk, *votes):
    """What is liked, and what disliked, after votes."""
    choices, taste = desk.vote([[*vote] for vote in votes])
    assert not is_problem(choices)
    assert ids_of(choices, "like")
    assert taste["count"] == len(votes)
    liked, _, disliked = taste["html"].partition("Rather not")
    return ids_of(liked, "forget"), ids_of(disliked, "forget")


def test_a_vote_is_taken_back_by_voting_again(desk):
    for place, how in enumerate(("like", "dislike")):
        assert chosen(desk, (how, "000.png"))[place] == ["000.png"]
        assert chosen(desk, (how, "000.png"), (how, "000.png")) == ([], [])


def test_a_product_is_liked_or_disliked_and_not_both(desk):
    votes = [("like", "000.png"), ("like", "004.png"), ("dislike", "000.png")]
    assert chosen(desk, *votes) == (["004.png"], ["000.png"])
    votes += [("like", "000.png")]
    assert chosen(desk, *votes) == (["004.png", "000.png"], [])
    votes += [
        ("forget", "000.png"),
        ("dislike", "002.png"),
        ("forget", "002.png"),
        ("forget", "006.png"),
    ]
    assert chosen(desk, *votes) == (["004.png"], [])


def test_recommendations_follow_the_votes(desk):
    html = desk.vote([["like", "000.png"], ["dislike", "009.png"]])[1]["html"]
    expected = desk.service.taste(["000.png"], ["009.png"])["image_id"].tolist()
    assert ids_of(html, "like") == expected
    assert ids_of(html, "forget") == ["000.png", "009.png"]
    assert "Like at least one product" in desk.vote([["dislike", "002.png"]])[1]["html"]


def test_more_shows_others_and_keeps_the_votes(desk):
    votes, seen = [["like", "000.png"]], []
    for _ in range(4):
        seen.append(tuple(ids_of(desk.vote(votes)[0], "like")))
        assert chosen(desk, *votes) == (["000.png"], [])
        votes.append(["more", ""])
    assert len(set(seen)) == 3
    assert seen[0] == seen[3]  # 36 photos of 18 products, 12 a page: the fourth is the first


def test_a_taste_without_a_rest_says_so(desk):
    every = desk.service.catalog["image_id"].tolist()
    html = desk.vote([["like", one] for one in every[::2]])[1]["html"]
    assert not ids_of(html, "like")
    (told,) = re.findall(r'<p class="lk-empty">(.*?)</p>', html)
    assert told.endswith(".")


def test_a_vote_for_what_is_gone_keeps_the_others(desk):
    """A page that was opened before the catalogue changed, or a stranger's."""
    odd = [
        ("like", "nobody.png"),
        ("dislike", "../etc/passwd"),
        ("hate", "002.png"),
        ("like", 5),
        (None, None),
        (),
    ]
    assert chosen(
        desk, ("like", "000.png"), *odd, ("like", ["000.png"]), ("like", "000.png", "x")
    ) == (["000.png"], [])


def test_no_more_than_many_are_shown_the_newest(tmp_path, encoder):
    catalog = make_catalog(tmp_path / "photos", 2 * MANY + 2)
    desk = Handlers(Service(embed_catalog(encoder, catalog, tmp_path / "store"), encoder))
    names = catalog["image_id"].tolist()
    liked, disliked = names[: MANY + 1], names[MANY + 1 :]
    votes = [("like", one) for one in liked] + [("dislike", one) for one in disliked]
    assert chosen(desk, *votes) == (liked[1:], disliked[1:])
    assert chosen(desk, *votes, ("like", liked[-1])) == (liked[:-1], disliked[1:])


# --- Strange values
# ----------------------------------------------------------------------------------------------

NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 2**63, 0, 1])
WORDS = st.text(max_size=8) | st.sampled_from(
    [
        "000.png",
        "id",
        "data",
        "like",
        "data:image/png;base64,AAAA",
        "data:;base64,",
        "../x",
        "/etc/passwd",
        "\ud800",
        "a",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            WORDS | st.sampled_from(["id", "data", "bytes", "camera", "html"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
FIELD = JSON | st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("id", "data", "bytes", "camera"), JSON)
)
# Always text: whatever comes is made one.
NAME = st.text(max_size=8) | st.sampled_from(["000.png", "", "../x"])


def is_sentence(html):
    """HTML that tells of no fault of ours, and shows nothing of the machine."""
    assert isinstance(html, str)
    assert BROKEN not in html
    assert "Traceback" not in html
    assert str(PROJECT) not in html
    return True


def asked(desk, caplog, ask):
    """The answer, for which nothing was logged."""
    caplog.clear()
    answer = ask()
    assert not caplog.records, caplog.records[0].exc_info
    return answer


strange = settings(max_examples=150, deadline=None)


@pytest.fixture(scope="module")
def log():
    """What the desk logs: one fixture for all examples of a test."""

    class Records(logging.Handler):
        def __init__(self):
            super().__init__()
            self.records = []

        def emit(self, record):
            self.records.append(record)

        def clear(self):
            self.records = []

    records, logger = Records(), logging.getLogger("lookalike.page.handlers")
    logger.addHandler(records)
    yield records
    logger.removeHandler(records)


@strange
@given(value=FIELD)
def test_any_value_of_a_photo_field_is_answered(desk, log, value):
    shown = asked(desk, log, lambda: desk.accept(value))
    assert shown is None or is_sentence(shown["html"])
    shown, html = asked(desk, log, lambda: desk.check(value))
    assert shown is None or is_sentence(shown["html"])
    assert is_sentence(html)


@strange
@given(first=FIELD, second=FIELD, name=JSON)
def test_any_two_photo_fields_are_answered(desk, log, first, second, name):
    html, why = asked(desk, log, lambda: desk.compare(first, second))
    assert is_sentence(html)
    assert is_sentence(why)
    assert is_sentence(asked(desk, log, lambda: desk.why(name, first)))
    assert is_sentence(asked(desk, log, lambda: desk.why(name, {"id": "000.png"})))


@strange
@given(value=st.just({"id": "000.png"}) | FIELD, k=JSON, metric=JSON, label=JSON)
def test_any_wish_is_answered(desk, log, value, k, metric, label):
    html, why = asked(desk, log, lambda: desk.find(value, k, metric, label))
    assert is_sentence(html)
    assert why == ""


VOTE = st.tuples(WORDS | st.sampled_from(["like", "dislike", "forget", "more"]), NAME).map(list)


@strange
@given(votes=FIELD | st.lists(VOTE | JSON, max_size=6))
def test_any_votes_are_answered(desk, log, votes):
    choices, taste = asked(desk, log, lambda: desk.vote(votes))
    assert is_sentence(choices)
    assert is_sentence(taste["html"])
    assert ids_of(choices, "like")


@pytest.mark.parametrize(
    "k", [None, "", "many", float("nan"), float("inf"), -float("inf"), [5], {}, 10**400, "1" * 5000]
)
def test_any_number_of_results_is_answered(desk, log, k):
    assert is_sentence(asked(desk, log, lambda: desk.find({"id": "000.png"}, k, "cosine", ""))[0])


@pytest.mark.parametrize("metric", [None, "", "manhattan", 5, ["cosine"], {}])
@pytest.mark.parametrize("value", [{"id": "000.png"}, None])
def test_any_nearness_is_answered(desk, log, metric, value):
    assert is_sentence(asked(desk, log, lambda: desk.find(value, 5, metric, ""))[0])


@pytest.mark.parametrize(
    "label", ["nobody", 5, True, ["a", "nobody"], [["a"]], {"a": 1}, "<b>", "A", 1.5]
)
def test_any_category_is_answered(desk, log, label):
    assert is_sentence(
        asked(desk, log, lambda: desk.find({"id": "000.png"}, 5, "cosine", label))[0]
    )


@pytest.mark.parametrize(
    "count", [10**400, float("inf"), 1e300, True, -5, float("nan")], ids=lambda n: str(n)[:9]
)
def test_any_count_of_bytes_is_answered(desk, log, count):
    shown = asked(desk, log, lambda: desk.accept({"bytes": count}))
    assert shown is None or is_sentence(shown["html"])
    assert shown is None or len(shown["html"]) < 300


def test_a_fault_of_ours_leaves_the_taste_in_sight(desk, monkeypatch):
    monkeypatch.setattr(desk.pages, "choices", lambda *values: 1 / 0)
    told, taste = desk.vote([["like", "000.png"]])
    assert BROKEN in told
    assert taste == gradio.skip()
