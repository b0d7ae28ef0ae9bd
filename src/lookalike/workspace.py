"""Where things live: the project's folders, paths as people write them, files written whole."""

import hashlib
import os
import re
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from lookalike.machine import on_colab

# A path on a mounted Drive, whose folders its page writes with blanks and the disk without.
DRIVE = re.compile(
    r"(.*?/|)(My ?Drive|Shared ?drives|Other ?computers|\.shortcut-targets-by-id)(/.*|)"
)


@dataclass(frozen=True)
class Workspace:
    """The folders of one project: `data`, `embeddings` and `models` under one `root`."""

    root: Path

    data = property(lambda self: self.root / "data")
    embeddings = property(lambda self: self.root / "embeddings")
    models = property(lambda self: self.root / "models")

    @property
    def downloads(self):
        """Where photos are unpacked: `data`, but not on a Drive, which is slow with small files."""
        on_drive = DRIVE.fullmatch(str(self.root))
        return project_root() / "data" if on_drive else self.data


@dataclass(frozen=True)
class Choice:
    """What a parameter became, and why; printing it tells the reader in one line."""

    parameter: str
    value: str
    reason: str

    def __str__(self):
        return f"{self.parameter} = {self.value}: {self.reason}"


def project_root():
    """The folder that holds `src/lookalike`: the clone, on a laptop as on Colab; else the current
    folder.
    """
    clone = Path(__file__).resolve().parents[2]
    return clone if (clone / "notebooks").is_dir() else Path.cwd()


def plain_path(path):
    """A path as its writer meant it: no blanks or quotes around it, `~` the home folder, a Drive as
    it is called on disk.
    """
    unquoted = re.sub(r"""^(['"])(.*)\1$""", r"\2", str(path).strip())
    found = os.path.expanduser(unquoted.strip())
    on_drive = DRIVE.fullmatch(found)
    # On a laptop, Google's own program does write the blank.
    if not on_drive or os.path.exists(found):
        return found
    above, drive, inside = on_drive.groups()
    return f"{above or '/content/drive/'}{drive.replace(' ', '')}{inside}"


def mount_drive(*paths):
    """On Colab, mount Google Drive if one of `paths` lies on it, as in
    `/content/drive/MyDrive/photos.zip`.
    """
    for on_drive in map(DRIVE.fullmatch, map(plain_path, paths)):
        if on_colab() and on_drive:
            from google.colab import drive

            drive.mount(on_drive[1].rstrip("/"))


def open_workspace(root=""):
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
    if not chosen.parent.is_dir():
        raise FileNotFoundError(
            f"No folder at {chosen}. Make it first; on Colab, mount Drive before that."
        )
    workspace = Workspace(chosen)
    for folder in (workspace.data, workspace.embeddings, workspace.models):
        folder.mkdir(parents=True, exist_ok=True)
    return workspace


def choose_source(source, path=""):
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


def file_hash(path):
    """SHA-256 of a file of any size, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def written_aside(path):
    """Give a temporary name beside `path`; on success it is renamed to `path`, on failure it is
    removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def sole_writer(path):
    """Let one process at a time write `path`; another waits, and says so.

    What a killed one has locked is free. A full disk, or a folder of others, is an `OSError` that
    says what to do.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=1)
        except Timeout:
            print(
                f"Another process writes {path}; waiting for {lock.lock_file} ...", flush=True
            )
            lock.acquire()
        except (NotImplementedError, OSError):
            # A disk without locks lets all in.
            Path(lock.lock_file).unlink(missing_ok=True)
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror or error}; {path} is as before. "
            "Free some space, or choose a folder that you may write to, and run again.",
        ) from error
    finally:
        if lock.is_locked:
            # While held: who waits for a file that was removed notices it, and takes the next.
            with suppress(OSError):
                os.unlink(lock.lock_file)
        lock.release()


@contextmanager
def replaced(folder):
    """A copy of a folder to write into, or a new one, which takes its place when it is whole."""
    fresh = folder.with_name(f".{folder.name}.new")
    previous = folder.with_name(f".{folder.name}.previous")

    def tidy():
        # A run was killed, or could not go on, between the two renames.
        if previous.exists() and not folder.exists():
            os.replace(previous, folder)
        for leftover in (fresh, previous):
            shutil.rmtree(leftover, ignore_errors=True)

    tidy()
    try:
        if folder.exists():
            shutil.copytree(folder, fresh, symlinks=True)
        else:
            fresh.mkdir()
        yield fresh
        if folder.exists():
            os.replace(folder, previous)
        os.replace(fresh, folder)
    finally:
        tidy()
