"""Which Gradio the page takes."""

import subprocess
import sys

import pytest


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
