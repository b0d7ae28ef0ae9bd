"""Where things live, what machine this is, what every "auto" chose, and how long a loop still
takes.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import importlib
import importlib.util
import os
import platform
import re
import shlex
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from tqdm import tqdm

ADVICE = dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "What was computed is kept: free some space")
ADVICE |= dict.fromkeys(
    (errno.EACCES, errno.EPERM, errno.EROFS), "Choose a folder that you may write to"
)


@dataclass(frozen=True)
class Workspace:
    """The folders of one project: `data`, `embeddings` and `models` under one `root`."""

    root: Path

    data = property(lambda self: self.root / "data")
    embeddings = property(lambda self: self.root / "embeddings")
    models = property(lambda self: self.root / "models")

    @property
    def downloads(self) -> Path:
        """Where photos are unpacked: `data`, but never on a Drive: it is slow with small files."""
        roots = self.root, project_root(), Path.cwd()
        return min(roots, key=lambda root: "MyDrive" in root.parts) / "data"


@dataclass(frozen=True)
class Choice:
    """What a parameter became, and why; printing it tells the reader in one line."""

    parameter: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.parameter} = {self.value}: {self.reason}"


def on_colab() -> bool:
    """Whether this Python runs in a Google Colab notebook."""
    return "google.colab" in sys.modules


def project_root() -> Path:
    """The folder that holds `src/lookalike`: the clone, on a laptop as on Colab; else the current
    folder.
    """
    clone = Path(__file__).resolve().parents[2]
    return clone if (clone / "notebooks").is_dir() else Path.cwd()


def plain_path(path: str | Path) -> str:
    """A path as its writer meant it: no blanks, quotes or slash around it, `~` the home folder.

    What exists under the very name is left as it is.
    """
    stripped = str(path).strip()
    unquoted = re.sub(r"""^(['"])(.*)\1$""", r"\2", stripped)
    spellings = str(path), stripped, unquoted.strip()
    paths = list(map(os.path.expanduser, spellings))
    return next(filter(os.path.lexists, paths), paths[-1].rstrip("/"))


def mount_drive(*paths: str | Path) -> None:
    """On Colab, mount Google Drive if one of `paths` lies on it, as in
    `/content/drive/MyDrive/photos.zip`.
    """
    for parts in (Path(plain_path(path)).parts for path in paths):
        if on_colab() and "MyDrive" in parts:
            from google.colab import drive

            drive.mount(str(Path(*parts[: parts.index("MyDrive")])))


def open_workspace(root: str | Path = "") -> Workspace:
    """Find the project's folders and make those that results are written to.

    Parameters
    ----------
    root
        Where data, stores and models live, made if its parent is there; a folder on a mounted Drive
        keeps them when a Colab machine is recycled. Empty: the environment variable
        `LOOKALIKE_HOME`, else the project itself.

    Raises
    ------
    FileNotFoundError
        If `root` is no folder and has no parent, e.g. because Drive is not mounted.
    """
    asked = str(root).strip() or os.environ.get("LOOKALIKE_HOME") or project_root()
    chosen = Path(plain_path(asked)).absolute()
    if chosen.parent.is_dir() and not chosen.exists():
        chosen.mkdir()
    if not chosen.is_dir():
        raise FileNotFoundError(
            f"No folder at {chosen}. Make it first; on Colab, mount Drive before that."
        )
    workspace = Workspace(chosen)
    for folder in (workspace.data, workspace.embeddings, workspace.models):
        folder.mkdir(exist_ok=True)
    return workspace


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keep what native code writes to standard error off the page: TensorFlow's import prints what
    nobody needs.
    """
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def quiet_tensorflow() -> None:
    """Import TensorFlow without what it says of the machine; to be called before Keras is."""
    with quiet_stderr():
        import tensorflow  # noqa: F401


def set_up_notebook() -> None:
    """What every notebook calls first: TensorFlow is quiet, and every figure gets an alt text."""
    quiet_tensorflow()
    from IPython import get_ipython

    formatter = get_ipython().display_formatter.mimebundle_formatter
    formatter.for_type_by_name("matplotlib.figure", "Figure", _with_alt_text)


def _with_alt_text(figure, **_) -> tuple[dict, dict]:
    """What IPython keeps beside a figure's picture: its titles, for who cannot see it."""
    titles = [figure.get_suptitle()]
    if not any(titles):
        titles = [axes.get_title() for axes in figure.axes]
    alt = ". ".join(" ".join(title.split()) for title in titles if title)
    return {}, {"image/png": {"alt": alt or "A figure without a title"}}


def describe_machine() -> str:
    """The machine in one line: processor cores, memory, GPU, and the versions that matter."""
    import tensorflow as tf  # takes seconds, which only this one needs

    with quiet_stderr():
        gpus = [
            tf.config.experimental.get_device_details(gpu)
            for gpu in tf.config.list_physical_devices("GPU")
        ]
    names = [gpu.get("device_name", "GPU") for gpu in gpus]
    memory = psutil.virtual_memory().total / 2**30
    place = "Colab, " if on_colab() else ""
    return (
        f"{place}{os.cpu_count()} CPU cores, {memory:.0f} GB memory, {', '.join(names) or 'no GPU'}; "
        f"Python {platform.python_version()}, TensorFlow {version('tensorflow')}, Keras {version('keras')}"
    )


def lazy_exports(room: str, **modules: str) -> tuple[Callable[[str], object], list[str]]:
    """`__getattr__` and `__all__` of a room: each name, and the module it is imported from when it
    is asked for.
    """

    def exported(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{room}.{modules[name]}"), name)

    return exported, sorted(modules)


def require(*packages: str) -> None:
    """If packages, named as for pip, are missing, raise an `ImportError` that has the line which
    installs them.
    """
    modules = {"faiss-cpu": "faiss"}  # else the package's name tells
    names = {package: re.match(r"[\w-]+", package)[0] for package in packages}
    find = importlib.util.find_spec
    missing = [
        package
        for package, name in names.items()
        if find(modules.get(name, name.replace("-", "_"))) is None
    ]
    if missing:
        line = f"pip install {' '.join(map(shlex.quote, missing))}"
        raise ImportError(
            f"{' and '.join(names[package] for package in missing)} not installed; run: {line}"
        )


def choose_source(source: str, path: str = "") -> Choice:
    """Resolve `source`: "auto" is what lies at `path`; else real photos on Colab, and elsewhere the
    bundled sample.
    """
    if source != "auto":
        return Choice("source", source, "as asked")
    if path := plain_path(path):
        return Choice("source", "zip" if Path(path).is_file() else "folder", "there is a path")
    if on_colab():
        return Choice("source", "caltech256", "photographs from Kaggle, as this is Colab")
    return Choice("source", "sample", "bundled with the project, needs no network")


def source_name(source: str, path: str = "") -> str:
    """A name for what is made from a source; two folders both called "photos" get two names.

    What lies inside the project keeps its name when the project is moved or copied.
    """
    path = plain_path(path)
    if not path:
        return source
    place = Path(os.path.abspath(path))
    if place.is_relative_to(project_root()):
        place = place.relative_to(project_root())
    return f"{place.stem}-{hashlib.sha256(str(place).encode()).hexdigest()[:6]}"


def progress(
    items: Iterable | None = None,
    *,
    total: int,
    description: str,
    unit: str = "images",
    initial: int = 0,
) -> tqdm:
    """A progress bar over `items`, or one to be updated, on standard output, where a notebook keeps
    it as text.
    """
    return tqdm(
        items,
        total=total,
        initial=initial,
        desc=description,
        unit=f" {unit}",
        file=sys.stdout,
        mininterval=0.5,
    )


def parallel_map(
    function: Callable, items: Iterable, *, workers: int = 0, ahead: int = 0
) -> Iterator:
    """Apply `function` to `items` in threads; results come in order, with a bounded number under
    way.

    Unlike `Executor.map`, it never holds more than `ahead` items, or four a worker, so a million
    files cost no memory.
    """
    workers = workers or min(32, 2 * (os.cpu_count() or 1))
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= (ahead or 4 * workers):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file of any size, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success it is renamed to `path`, on failure it is
    removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(path.parent)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.partial")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@functools.cache
def _clear(folder: Path) -> None:
    """Remove what killed processes have left; once, as it takes a while to list a folder of a
    million photos.
    """
    for left in folder.glob(".*.partial"):
        writer = re.search(r"\.(\d+)-\d+\.partial$", left.name)
        if writer and not psutil.pid_exists(int(writer[1])):
            with suppress(OSError):  # somebody else's, or a folder of such a name
                left.unlink()


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Let one process at a time write `path`; another waits, and says so.

    What a killed one has locked is free.

    A file system without locks lets all in. A full disk or a folder of others is an `OSError` that
    says what to do.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=1)
        except Timeout:
            print(
                f"Another process writes {path}; waiting for it to remove {lock.lock_file} ...",
                flush=True,
            )
            lock.acquire()
        except (NotImplementedError, OSError) as error:
            if getattr(error, "errno", None) in ADVICE:
                raise
            Path(lock.lock_file).unlink(missing_ok=True)
        yield
    except OSError as error:
        if error.errno not in ADVICE:
            raise
        raise OSError(
            error.errno, f"{error.strerror}; {path} is as before. {ADVICE[error.errno]}; run again."
        ) from error
    finally:
        if lock.is_locked:
            # While held: who waits for a file that was removed notices it, and takes the next.
            with suppress(OSError):
                os.unlink(lock.lock_file)
        lock.release()
