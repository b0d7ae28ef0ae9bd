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
def handlers(page_store, encoder):
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
def test_an_upload_is_made_small_and_asked_with_again(handlers, kind):
    sent = upload(kind=kind)
    kept = handlers.accept(sent)
    assert kept["data"].startswith("data:image/png;base64,")
    assert "Your photo" in kept["html"]
    assert handlers.accept(kept)["data"] == kept["data"]
    assert handlers.find(kept, 5, "cosine", "") == handlers.find(sent, 5, "cosine", "")
    assert handlers.compare(kept, sent)[0] == handlers.compare(kept, kept)[0]
    assert "<strong>1.000</strong>" in handlers.compare(sent, kept)[0]


def test_a_photo_of_the_catalogue_is_chosen_by_its_name(handlers):
    chosen = handlers.accept({"id": "004.png"})
    assert chosen["id"] == "004.png"
    assert "c, product-2" in chosen["html"]
    assert handlers.accept(chosen) == chosen
    results, why = handlers.find(chosen, 4, "cosine", "")
    assert ids_of(results, "search") == handlers.service.find("004.png", k=4)["image_id"].tolist()
    assert why == ""
    assert is_problem(handlers.accept({"id": "nobody.png"})["html"])
    assert is_problem(handlers.accept({"id": ""})["html"])


@pytest.mark.parametrize(
    ("k", "count"),
    [(1, 1), (0, 1), (-5, 1), (7, 7), (7.9, 7), ("3", 12), (24, MOST), (1000, MOST), (True, 1)],
)
def test_how_many_is_kept_in_bounds(handlers, k, count):
    assert len(ids_of(handlers.find({"id": "000.png"}, k, "cosine", "")[0], "search")) == count


@pytest.mark.parametrize("label", ["", None, [], 0, False])
def test_no_category_is_any(handlers, label):
    assert handlers.find({"id": "000.png"}, 5, "cosine", label) == handlers.find(
        {"id": "000.png"}, 5, "cosine", ""
    )


def test_why_is_asked_of_a_result_and_a_photo(handlers):
    for value, name in (
        ({"id": "000.png"}, "<figcaption>a, product-0<"),
        (upload(), "<figcaption>Your photo<"),
    ):
        html = handlers.why("005.png", value)
        assert html.count("<img") == 4
        assert name in html
        assert "c, product-2" in html
    assert handlers.why("005.png", None) == ""
    assert is_problem(handlers.why("nobody.png", upload()))


def test_nothing_chosen_is_no_problem(handlers):
    for value in (None, {}, {"html": "x"}, [], "x", 5):
        assert handlers.accept(value) is None
        html, why = handlers.find(value, 5, "cosine", "")
        assert text.unescape(re.search(r"<p[^>]*>(.*)</p>", html)[1]) == NO_QUERY
        assert why == ""
        assert handlers.compare(value, {"id": "000.png"}) == handlers.compare(
            {"id": "000.png"}, value
        )
        assert NO_PAIR in handlers.compare(value, value)[0]
        shown, html = handlers.check(value)
        assert shown is None
        assert NO_UPLOAD in html


def test_a_camera_that_cannot_be_used_is_told(handlers):
    assert NO_CAMERA in handlers.accept({"camera": False})["html"]
    assert NO_CAMERA in handlers.check({"camera": False})[0]["html"]


def test_a_file_that_was_too_large_to_send_is_told(handlers):
    for told in (
        handlers.accept({"bytes": 12_345_678})["html"],
        handlers.check({"bytes": 12_345_678})[0]["html"],
    ):
        assert "12,345,678 bytes" in told
    assert handlers.accept({"bytes": 10_000_000}) is None


def test_a_copy_is_found_among_the_photos(handlers):
    file = Path(handlers.service.catalog["path"].iloc[3])
    sent = {"data": "data:;base64," + base64.b64encode(file.read_bytes()).decode()}
    shown, html = handlers.check(sent)
    assert shown["data"] == handlers.accept(sent)["data"]
    assert "Already there" in html
    assert "the same photo" in html
    shown, html = handlers.check(upload())
    assert "data" in shown
    assert "New" in html
    shown, html = handlers.check({"data": "data:image/png;base64,AAAA"})
    assert is_problem(shown["html"])
    assert NO_UPLOAD in html


def test_a_photo_that_went_has_a_sentence_and_no_path(tmp_path, encoder, caplog):
    store = embed_catalog(
        encoder, make_catalog(tmp_path / "photos", 6, views=2), tmp_path / "store"
    )
    handlers = Handlers(Service(store, encoder))
    sent = upload()
    for path in store.catalog["path"]:
        Path(path).unlink()
    told = [
        handlers.why("001.png", sent),
        *handlers.compare({"id": "000.png"}, sent),
        *handlers.find({"id": "000.png"}, 3, "cosine", ""),
        handlers.check(sent)[1],
        handlers.accept({"id": "000.png"})["html"],
        *map(str, handlers.vote([["like", "000.png"]])),
    ]
    assert is_problem(told[0])
    assert is_problem(told[1])
    assert "gone from its folder" in told[0]
    for html in told:
        assert str(tmp_path) not in html
        assert BROKEN not in html
    assert not caplog.records


def test_a_fault_of_ours_has_a_sentence_without_a_trace(page_store, encoder, caplog):
    handlers = Handlers(Service(page_store, encoder))
    handlers.service.store = None
    html, why = handlers.find({"id": "000.png"}, 5, "cosine", "")
    assert BROKEN in html
    assert "NoneType" not in html
    assert why == ""
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.records[0].exc_info


# --- Votes
# -------------------------------------------------------------------------------------------------------


def chosen(handlers, *votes):
    """What is liked, and what disliked, after votes."""
    choices, taste = handlers.vote([[*vote] for vote in votes])
    assert not is_problem(choices)
    assert ids_of(choices, "like")
    assert taste["count"] == len(votes)
    liked, _, disliked = taste["html"].partition("Rather not")
    return ids_of(liked, "forget"), ids_of(disliked, "forget")


def test_a_vote_is_taken_back_by_voting_again(handlers):
    for place, how in enumerate(("like", "dislike")):
        assert chosen(handlers, (how, "000.png"))[place] == ["000.png"]
        assert chosen(handlers, (how, "000.png"), (how, "000.png")) == ([], [])


def test_a_product_is_liked_or_disliked_and_not_both(handlers):
    votes = [("like", "000.png"), ("like", "004.png"), ("dislike", "000.png")]
    assert chosen(handlers, *votes) == (["004.png"], ["000.png"])
    votes += [("like", "000.png")]
    assert chosen(handlers, *votes) == (["004.png", "000.png"], [])
    votes += [
        ("forget", "000.png"),
        ("dislike", "002.png"),
        ("forget", "002.png"),
        ("forget", "006.png"),
    ]
    assert chosen(handlers, *votes) == (["004.png"], [])


def test_recommendations_follow_the_votes(handlers):
    html = handlers.vote([["like", "000.png"], ["dislike", "009.png"]])[1]["html"]
    expected = handlers.service.taste(["000.png"], ["009.png"])["image_id"].tolist()
    assert ids_of(html, "like") == expected
    assert ids_of(html, "forget") == ["000.png", "009.png"]
    assert "Like at least one product" in handlers.vote([["dislike", "002.png"]])[1]["html"]


def test_more_shows_others_and_keeps_the_votes(handlers):
    votes, seen = [["like", "000.png"]], []
    for _ in range(4):
        seen.append(tuple(ids_of(handlers.vote(votes)[0], "like")))
        assert chosen(handlers, *votes) == (["000.png"], [])
        votes.append(["more", ""])
    assert len(set(seen)) == 3
    assert seen[0] == seen[3]  # 36 photos of 18 products, 12 a page: the fourth is the first


def test_a_taste_without_a_rest_says_so(handlers):
    every = handlers.service.catalog["image_id"].tolist()
    html = handlers.vote([["like", one] for one in every[::2]])[1]["html"]
    assert not ids_of(html, "like")
    (told,) = re.findall(r'<p class="lk-empty">(.*?)</p>', html)
    assert told.endswith(".")


def test_a_vote_for_what_is_gone_keeps_the_others(handlers):
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
        handlers, ("like", "000.png"), *odd, ("like", ["000.png"]), ("like", "000.png", "x")
    ) == (["000.png"], [])


def test_no_more_than_many_are_shown_the_newest(tmp_path, encoder):
    catalog = make_catalog(tmp_path / "photos", 2 * MANY + 2)
    handlers = Handlers(Service(embed_catalog(encoder, catalog, tmp_path / "store"), encoder))
    names = catalog["image_id"].tolist()
    liked, disliked = names[: MANY + 1], names[MANY + 1 :]
    votes = [("like", one) for one in liked] + [("dislike", one) for one in disliked]
    assert chosen(handlers, *votes) == (liked[1:], disliked[1:])
    assert chosen(handlers, *votes, ("like", liked[-1])) == (liked[:-1], disliked[1:])


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


def asked(handlers, caplog, ask):
    """The answer, for which nothing was logged."""
    caplog.clear()
    answer = ask()
    assert not caplog.records, caplog.records[0].exc_info
    return answer


strange = settings(max_examples=150, deadline=None)


@pytest.fixture(scope="module")
def log():
    """What the handlers logs: one fixture for all examples of a test."""

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
def test_any_value_of_a_photo_field_is_answered(handlers, log, value):
    shown = asked(handlers, log, lambda: handlers.accept(value))
    assert shown is None or is_sentence(shown["html"])
    shown, html = asked(handlers, log, lambda: handlers.check(value))
    assert shown is None or is_sentence(shown["html"])
    assert is_sentence(html)


@strange
@given(first=FIELD, second=FIELD, name=JSON)
def test_any_two_photo_fields_are_answered(handlers, log, first, second, name):
    html, why = asked(handlers, log, lambda: handlers.compare(first, second))
    assert is_sentence(html)
    assert is_sentence(why)
    assert is_sentence(asked(handlers, log, lambda: handlers.why(name, first)))
    assert is_sentence(asked(handlers, log, lambda: handlers.why(name, {"id": "000.png"})))


@strange
@given(value=st.just({"id": "000.png"}) | FIELD, k=JSON, metric=JSON, label=JSON)
def test_any_wish_is_answered(handlers, log, value, k, metric, label):
    html, why = asked(handlers, log, lambda: handlers.find(value, k, metric, label))
    assert is_sentence(html)
    assert why == ""


VOTE = st.tuples(WORDS | st.sampled_from(["like", "dislike", "forget", "more"]), NAME).map(list)


@strange
@given(votes=FIELD | st.lists(VOTE | JSON, max_size=6))
def test_any_votes_are_answered(handlers, log, votes):
    choices, taste = asked(handlers, log, lambda: handlers.vote(votes))
    assert is_sentence(choices)
    assert is_sentence(taste["html"])
    assert ids_of(choices, "like")


@pytest.mark.parametrize(
    "k", [None, "", "many", float("nan"), float("inf"), -float("inf"), [5], {}, 10**400, "1" * 5000]
)
def test_any_number_of_results_is_answered(handlers, log, k):
    assert is_sentence(
        asked(handlers, log, lambda: handlers.find({"id": "000.png"}, k, "cosine", ""))[0]
    )


@pytest.mark.parametrize("metric", [None, "", "manhattan", 5, ["cosine"], {}])
@pytest.mark.parametrize("value", [{"id": "000.png"}, None])
def test_any_nearness_is_answered(handlers, log, metric, value):
    assert is_sentence(asked(handlers, log, lambda: handlers.find(value, 5, metric, ""))[0])


@pytest.mark.parametrize(
    "label", ["nobody", 5, True, ["a", "nobody"], [["a"]], {"a": 1}, "<b>", "A", 1.5]
)
def test_any_category_is_answered(handlers, log, label):
    assert is_sentence(
        asked(handlers, log, lambda: handlers.find({"id": "000.png"}, 5, "cosine", label))[0]
    )


@pytest.mark.parametrize(
    "count", [10**400, float("inf"), 1e300, True, -5, float("nan")], ids=lambda n: str(n)[:9]
)
def test_any_count_of_bytes_is_answered(handlers, log, count):
    shown = asked(handlers, log, lambda: handlers.accept({"bytes": count}))
    assert shown is None or is_sentence(shown["html"])
    assert shown is None or len(shown["html"]) < 300


def test_a_fault_of_ours_leaves_the_taste_in_sight(handlers, monkeypatch):
    monkeypatch.setattr(handlers.pages, "choices", lambda *values: 1 / 0)
    told, taste = handlers.vote([["like", "000.png"]])
    assert BROKEN in told
    assert taste == gradio.skip()
