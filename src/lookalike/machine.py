"""What runs and where: this machine, its notebook, loops over many photos and their bars."""

import importlib.util
import os
import platform
import re
import shlex
import sys
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version

import psutil
from tqdm import tqdm

THREADS = min(32, 2 * (os.cpu_count() or 1))


def on_colab():
    """Whether this Python runs in a Google Colab notebook."""
    return "google.colab" in sys.modules


@contextmanager
def quiet_stderr():
    """Keep what native code writes to standard error off the page: TensorFlow's import prints what
    nobody needs.
    """
    saved = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def quiet_tensorflow():
    """Import TensorFlow without what it says of the machine; to be called before Keras is."""
    with quiet_stderr():
        import tensorflow
    # It warns of "retracing" where a notebook has used a few networks.
    tensorflow.get_logger().setLevel("ERROR")


def set_up_notebook():
    """What every notebook calls first: TensorFlow is quiet, every figure gets an alt text and draws
    the letters that a font here has, and a warning of ours is one sentence.
    """
    quiet_tensorflow()
    import matplotlib
    from IPython import get_ipython

    from lookalike.fonts import fonts, missing_letters

    # The first figure would switch this on, and if drawn in our style, off again.
    matplotlib.interactive(True)
    # A label may hold a dollar, and means money by it.
    matplotlib.rcParams.update({"text.parse_math": False, "font.family": fonts()})
    formatter = get_ipython().display_formatter.mimebundle_formatter
    formatter.for_type_by_name("matplotlib.figure", "Figure", _with_alt_text)
    # Bars are drawn as text.
    warnings.filterwarnings("ignore", "IProgress")
    show = warnings.showwarning
    print_once = cache(print)

    def show_briefly(message, category, *place):
        text = str(message)
        if category is not UserWarning:
            show(message, category, *place)
        elif text.startswith("Glyph"):
            print_once("Warning:", missing_letters(text))
        else:
            print("Warning:", text)

    warnings.showwarning = show_briefly


def _with_alt_text(figure, **_):
    """What IPython keeps beside a figure's picture: its titles, for who cannot see it."""
    titles = [axes.get_title() for axes in figure.axes]
    alt = figure.get_suptitle() or ". ".join(filter(None, titles)) or "A figure without a title"
    return {}, {"image/png": {"alt": " ".join(alt.split())}}


def describe_machine():
    """The machine in one line: processor cores, memory, GPU, and the versions that matter."""
    import tensorflow as tf  # takes seconds, which only this one needs

    with quiet_stderr():
        gpus = tf.config.list_physical_devices("GPU")
        gpus = map(tf.config.experimental.get_device_details, gpus)
        names = [gpu.get("device_name", "GPU") for gpu in gpus]
    return (
        f"{'Colab, ' if on_colab() else ''}{os.cpu_count()} CPU cores, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GB memory, "
        f"{', '.join(names) or 'no GPU'}; Python {platform.python_version()}, "
        f"TensorFlow {version('tensorflow')}, Keras {version('keras')}"
    )


def require(*packages):
    """If packages, named as for pip, are missing, raise an `ImportError` that has the line which
    installs them.
    """
    missing = []
    for package in packages:
        module = re.match(r"[\w-]+", package)[0].removesuffix("-cpu").replace("-", "_")
        if importlib.util.find_spec(module) is None:
            missing.append(package)
    if missing:
        raise ImportError(
            f"{' and '.join(missing)} not installed; run: pip install {shlex.join(missing)}"
        )


def progress(items=None, *, total=None, description, unit="images"):
    """A progress bar over `items`, or one to be updated, on standard output, where a notebook keeps
    it as text.
    """
    return tqdm(
        items, total=total, desc=description, unit=f" {unit}", file=sys.stdout, mininterval=0.5
    )


def parallel_map(function, items, *, workers=THREADS, ahead=0):
    """Apply `function` to `items` in threads; results come in order, with a bounded number under
    way.

    Unlike `Executor.map`, it never holds more than `ahead` items, or four a worker, so a million
    files cost no memory.
    """
    pool = ThreadPoolExecutor(workers)
    waiting = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= (ahead or 4 * workers):
                yield waiting.popleft().result()
        for future in waiting:
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)
