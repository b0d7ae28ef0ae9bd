"""Which Gradio the page takes, and how many it answers at once."""

import runpy
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx
import pytest
from test_app_http import ask

from lookalike.page import build_app, server
from lookalike.page.server import AT_ONCE


def imported(monkeypatch, gradio):
    """The error of importing with another Gradio."""
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    with pytest.raises(ImportError) as caught:
        runpy.run_path(server.__file__)
    return f"{caught.type.__name__}: {caught.value}"


@pytest.mark.parametrize("version", ["5.50.0", "6.9.1", "7.0.0"])
def test_another_gradio_is_refused_by_name_with_the_line_to_install(monkeypatch, version):
    told = imported(monkeypatch, SimpleNamespace(__version__=version))
    assert (
        told
        == f"ImportError: The page needs another Gradio than {version}: pip install 'gradio>=6.24,<7'"
    )


def test_a_missing_gradio_is_told_with_the_line_to_install(monkeypatch):
    told = imported(monkeypatch, None)
    assert told == "ModuleNotFoundError: The page needs Gradio: pip install 'gradio>=6.24,<7'"


def test_so_many_questions_are_answered_at_once_and_no_more_whatever_they_ask(page_store, encoder):
    page, lock, busy, most = build_app(page_store, encoder), threading.Lock(), [], []

    def slow(function):
        def answer(*values, **options):
            with lock:
                busy.append(function)
                most.append(len(busy))
            time.sleep(0.2)
            with lock:
                busy.remove(function)
            return function(*values, **options)

        return answer

    for name in ("find", "compare", "why"):
        setattr(page.handlers.service, name, slow(getattr(page.handlers.service, name)))
    try:
        _, address, _ = page.launch(prevent_thread_lock=True, quiet=True)
        with httpx.Client(base_url=address, timeout=60) as client:
            number = {
                one["api_name"]: one["id"] for one in client.get("/config").json()["dependencies"]
            }
            one, other = {"id": "000.png"}, {"id": "001.png"}
            asked = [
                ("find", [one, 5, "cosine", ""]),
                ("compare", [one, other]),
                ("why", ["001.png", one]),
            ]
            with ThreadPoolExecutor(12) as pool:
                answers = [pool.submit(ask, client, number[name], data) for name, data in asked * 4]
                assert all(answer.result()[0] for answer in answers)
    finally:
        page.close()
    assert max(most) == AT_ONCE
