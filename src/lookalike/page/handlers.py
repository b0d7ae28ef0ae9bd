"""The conversation with the page: what was clicked or sent, to HTML; a stranger's every value is
doubted here.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

from lookalike.page.html_parts import HtmlParts
from lookalike.page.service import Photo, Service
from lookalike.page.uploads import UploadError, refuse_large, upload_bytes
from lookalike.similarity import METRICS

# results; products that can be liked, and disliked
MOST = 24
MANY = 50
BROKEN = "Something went wrong here, not on your side. Try again; if it stays, what the server printed tells more."
NO_CAMERA = (
    "The camera cannot be used: there is none, or the page may not use it. Choose a photo instead."
)
NO_QUERY = "Choose a photo, or start from one of the catalogue's: what looks like it appears here."
NO_PAIR = "Choose two photos: how alike they are, and where, appears here."
NO_CHOICE = "This choice is not there (any more). Load the page anew."
NO_UPLOAD = "Choose a photo: whether the catalogue has it already appears here."
UNCHANGED = {"__type__": "update"}  # Gradio's word for it
log = logging.getLogger(__name__)


def answered(shape: Callable):
    """Make a method answer what cannot be served with a sentence, never with a trace.

    `shape` makes the method's answer of the handlers, of the sentence as HTML, and of the values
    it was asked with.
    """

    def decorate(method):
        @functools.wraps(method)
        def answer(self, *values):
            try:
                return method(self, *values)
            except UploadError as error:
                sentence = str(error)
            except Exception:
                log.exception("A question to the page could not be answered.")
                sentence = BROKEN
            return shape(self, self.pages.parts.problem(sentence), *values)

        return answer

    return decorate


class Handlers:
    """Handlers of the page's events.

    The value of a photo field is None, or holds the `id` of an image of the catalogue, or an upload
    as a `data:` URL in `data`; besides, the `html` that the field shows.
    """

    def __init__(self, service: Service):
        self.service = service
        self.pages = HtmlParts(service)

    def _photo(self, value: object) -> Photo | None:
        """The photo in a field; None if there is none."""
        value = value if isinstance(value, dict) else {}
        if isinstance(value.get("id"), str):
            self.service.row(value["id"])
            return value["id"]
        if "data" not in value:
            return None
        return self.service.prepare(upload_bytes(value["data"]))

    def _upload(self, value: object) -> dict:
        """The value of a field, if something could be sent at all."""
        value = value if isinstance(value, dict) else {}
        if value.get("camera") is False:
            raise UploadError(NO_CAMERA)
        if isinstance(value.get("bytes"), (int, float)):
            refuse_large(value["bytes"])
        return value

    @answered(lambda handlers, sentence, *values: {"html": sentence})
    def accept(self, value: object) -> dict | None:
        """What was put into a photo field, made small: asked with again, it does not travel whole
        each time.
        """
        photo = self._photo(self._upload(value))
        return None if photo is None else self.pages.photo(photo)

    @answered(lambda handlers, sentence, *values: (sentence, ""))
    def find(self, value: object, k: float, metric: str, label: str | None) -> tuple[str, str]:
        """The gallery of what is most alike, and nothing yet on why."""
        photo = self._photo(value)
        if photo is None:
            return self.pages.parts.empty(NO_QUERY), ""
        if metric not in METRICS or (label and label not in self.service.labels):
            raise UploadError(NO_CHOICE)
        k = int(min(max(1, k), MOST)) if isinstance(k, (int, float)) else MOST // 2
        return self.pages.results(
            self.service.find(photo, k=k, metric=metric, label=label or ""), metric
        ), ""

    @answered(lambda handlers, sentence, *values: sentence)
    def why(self, image_id: object, value: object) -> str:
        """Where the likeness of the photo and one of its results comes from."""
        photo = self._photo(value)
        if photo is None:
            return ""
        image_id = str(image_id)  # a list cannot be looked up
        own = self.pages.card(photo)["name"] if isinstance(photo, str) else "Your photo"
        names = (own, self.pages.card(image_id)["name"])
        return self.pages.why(self.service.why(photo, image_id), names)

    @answered(lambda handlers, sentence, *values: (sentence, ""))
    def compare(self, first: object, second: object) -> tuple[str, str]:
        """The score of two photos, and where it comes from."""
        photos = self._photo(first), self._photo(second)
        if any(photo is None for photo in photos):
            return self.pages.parts.empty(NO_PAIR), ""
        found = self.service.compare(*photos)
        return self.pages.comparison(found), self.pages.why(
            found.why, ("First", "Second"), "Where it comes from"
        )

    @answered(
        lambda handlers, sentence, *values: (
            {"html": sentence},
            handlers.pages.parts.empty(NO_UPLOAD),
        )
    )
    def check(self, value: object) -> tuple[dict | None, str]:
        """What was put into the photo field, and what in the catalogue it is a copy of."""
        value = self._upload(value)
        if "data" not in value:
            return None, self.pages.parts.empty(NO_UPLOAD)
        data = upload_bytes(value["data"])
        return self.pages.photo(self.service.prepare(data)), self.pages.copies(
            self.service.check(data)
        )

    @answered(lambda handlers, sentence, votes: (sentence, UNCHANGED))
    def vote(self, votes: object) -> tuple[str, dict]:
        """The choices and the taste after all votes of a visit, which the browser keeps.

        A vote is "like" or "dislike" (each again takes it back), "forget", or "more", for other
        choices; and an `id`.
        """
        votes, chosen, page = votes if isinstance(votes, list) else [], {}, 0
        for vote in votes:
            match vote:
                case ["more", _]:
                    page += 1
                case [how, str(image_id)] if image_id in self.service.rows:
                    had = chosen.pop(image_id, None)
                    if how in ("like", "dislike") and how != had:
                        chosen[image_id] = how
        liked, disliked = (
            [image_id for image_id in chosen if chosen[image_id] == how][-MANY:]
            for how in ("like", "dislike")
        )
        try:
            table = self.service.taste(liked, disliked)
            sentence = "You have chosen them all: no other product is left."
        except UploadError as error:
            table = None
            sentence = str(error)
        html = self.pages.taste(table, liked, disliked, sentence)
        return self.pages.choices(page, liked, disliked), {"html": html, "count": len(votes)}
