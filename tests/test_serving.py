"""Which Gradio the page takes, and how many it answers at once."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from lookalike.app import build_app
from lookalike.serving import AT_ONCE
from test_app_http import ask


def imported(tmp_path, text):
    (tmp_path / "gradio.py").write_text(text)
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import lookalike.app"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stderr.splitlines()[-1]


@pytest.mark.parametrize("version", ["5.50.0", "6.9.1", "7.0.0"])
def test_another_gradio_is_refused_by_name_with_the_line_to_install(tmp_path, version):
    told = imported(tmp_path, f"__version__ = {version!r}")
    assert told == f"ImportError: The page needs another Gradio than {version}: pip install 'gradio>=6.24,<7'"


def test_a_missing_gradio_is_told_with_the_line_to_install(tmp_path):
    told = imported(tmp_path, "raise ModuleNotFoundError('No module named gradio', name='gradio')")
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
        setattr(page.desk.service, name, slow(getattr(page.desk.service, name)))
    try:
        _, address, _ = page.launch(prevent_thread_lock=True, quiet=True)
        with httpx.Client(base_url=address, timeout=60) as client:
            number = {one["api_name"]: one["id"] for one in client.get("/config").json()["dependencies"]}
            one, other = {"id": "000.png"}, {"id": "001.png"}
            asked = [("find", [one, 5, "cosine", ""], None), ("compare", [one, other], None), ("why", [one], other)]
            with ThreadPoolExecutor(12) as pool:
                answers = [pool.submit(ask, client, number[name], data, event) for name, data, event in asked * 4]
                assert all(answer.result()[0] for answer in answers)
    finally:
        page.close()
    assert max(most) == AT_ONCE
