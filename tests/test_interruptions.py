"""Attacks on what writes a store: kills at every step, full and read-only disks, a second process,
a reader.
"""

import errno
import fcntl
import inspect
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import keras
import numpy as np
import pandas as pd
import pytest

from conftest import PROJECT, closable, make_catalog, small_disk, write_photo
from lookalike import embeddings
from lookalike.backbones import build_encoder
from lookalike.catalog import read_catalog, save_catalog
from lookalike.embedding_store import open_store, sole_writer
from lookalike.embeddings import embed_catalog
from lookalike.images import ImageError
from lookalike.saving import load_model, save_model
from test_embeddings import compiled_once  # noqa: F401

PIXELS = keras.Input((16, 16, 3))
TINY = keras.Model(PIXELS, keras.layers.Flatten()(PIXELS), name="tiny")
CHANGES = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")
watchers = []


def audit(event, arguments):
    """Python calls this before it touches a file; a hook cannot be taken away, but have nobody to
    tell.
    """
    if watchers and watchers[-1] and event in CHANGES:
        folder, watcher, steps = watchers[-1]
        # A name within a folder that is removed.
        inside = event in ("os.remove", "os.rmdir") and arguments[1] != -1
        if inside or (
            isinstance(arguments[0], (str, os.PathLike))
            and os.fspath(arguments[0]).startswith(folder)
        ):
            steps.append(event)
            watchers.append(None)  # what the watcher itself does is not watched
            try:
                watcher(len(steps) - 1)
            finally:
                watchers.pop()


sys.addaudithook(audit)


@contextmanager
def watched(folder, watcher):
    """Call `watcher` with a number from 0 before each step that is taken with the files of a store,
    or beside it.
    """
    steps = []
    watchers.append((os.path.join(os.path.dirname(folder), ""), watcher, steps))
    try:
        yield steps
    finally:
        watchers.pop()


# A child imports TensorFlow once and then does what it is told, a line a job. It can be told to be
# slow, and to kill itself, as kill -9 does, before a given one of the steps that it takes with the
# files of the store.
CHILD = f"""
import json, os, signal, sys, time
from contextlib import contextmanager
import keras
from lookalike import embeddings
from lookalike.catalog import read_catalog

PIXELS = keras.Input((16, 16, 3))
TINY = keras.Model(PIXELS, keras.layers.Flatten()(PIXELS), name="tiny")
CHANGES, watchers = {CHANGES}, []
{inspect.getsource(audit)}
{inspect.getsource(watched)}
sys.addaudithook(audit)
compile_encoder = embeddings.compile_encoder
def slow(encoder, **options):
    forward = compile_encoder(encoder, **options)
    return lambda pixels: (time.sleep(job["pause"]), forward(pixels))[1]
embeddings.compile_encoder = slow
print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    def kill(number):
        if number == job["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
    with watched(job["folder"], kill):
        embeddings.embed_catalog(TINY, read_catalog(job["catalog"]), job["folder"], batch_size=2)
    print("done", flush=True)
"""


class Scene:
    """Photos, a store of the old catalogue, and what a run that nobody disturbs makes of the new
    one.
    """

    def __init__(self, folder):
        self.folder = folder
        self.old = make_catalog(folder / "photos", 6)
        # Two are removed, two added, and one is changed.
        new = make_catalog(folder / "photos", 8).iloc[2:]
        write_photo(folder / "photos" / "changed.png", 77)
        new.loc[3, "path"] = str(folder / "photos" / "changed.png")
        self.new = new.reset_index(drop=True)
        save_catalog(self.new, folder / "new.csv")
        self.stores = [self.embed(self.old, "old"), self.embed(self.new, "fresh")]

    def embed(self, catalog, name):
        """Embed into a store that lies in a folder of its own."""
        (self.folder / name).mkdir(exist_ok=True)
        return embed_catalog(TINY, catalog, self.folder / name / "store", batch_size=2)

    def place(self, name):
        """The old store at another place, as deep."""
        return shutil.copytree(self.folder / "old", self.folder / name) / "store"

    def is_whole(self, store):
        """Whether it is one of the two stores, the old or the new, in all its parts."""
        told = [
            (one.vectors.tobytes(), one.manifest, *one.catalog["image_id"])
            for one in (store, *self.stores)
        ]
        return told[0] in told[1:]

    def check_finished(self, folder):
        """The store is to the byte the one that nobody disturbed, and alone."""
        for name in ("vectors.npy", "catalog.csv", "manifest.json"):
            assert (folder / name).read_bytes() == (
                self.folder / "fresh" / "store" / name
            ).read_bytes(), name
        assert os.listdir(folder.parent) == ["store"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return Scene(tmp_path_factory.mktemp("scene"))


# --- Kills
# ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def children():
    """Takes a child that is ready; three are started at once, so that they import TensorFlow side
    by side.
    """
    folders = [str(PROJECT / "src"), str(PROJECT / "tests"), os.environ.get("PYTHONPATH", "")]
    started, options = [], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    options["env"] = os.environ | {"PYTHONPATH": os.pathsep.join(reversed(folders))}

    def start():
        started.append(subprocess.Popen([sys.executable, "-u", "-c", CHILD], **options))
        return started[-1]

    waiting = [start() for _ in range(3)]

    def take():
        child = waiting.pop() if waiting else start()
        assert child.stdout.readline() == "ready\n"
        return child

    yield take
    for child in started:
        child.kill()
        child.communicate()


def tell(child, folder, catalog, *, pause=0.0, kill=-1):
    job = {"folder": str(folder), "catalog": str(catalog), "pause": pause, "kill": kill}
    child.stdin.write(json.dumps(job) + "\n")
    child.stdin.flush()


def wait_for(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


SOAK = [pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 20)]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("seed", [0, 1, *SOAK])
def test_a_killed_update_leaves_a_whole_store_and_the_next_run_finishes_it(seed, scene, children):
    """Even seeds: before a step that is drawn, 0 in the middle of the exchange; odd ones: after a
    time.
    """
    folder, chance = scene.place(f"killed-{seed}"), random.Random(seed)
    with watched(scene.place(f"counted-{seed}"), lambda number: None) as steps:
        scene.embed(scene.new, f"counted-{seed}")
    # The old one is away, the new one not yet there.
    exchange = len(steps) - 1 - steps[::-1].index("os.rename")
    child = children()
    if seed % 2:
        tell(child, folder, scene.folder / "new.csv", pause=0.05)
        time.sleep(chance.uniform(0, 0.4))
        child.send_signal(signal.SIGKILL)
    else:
        tell(
            child,
            folder,
            scene.folder / "new.csv",
            kill=chance.randrange(len(steps)) if seed else exchange,
        )
    assert child.wait(120) == -signal.SIGKILL
    if seed == 0:
        assert sorted(os.listdir(folder.parent)) == [
            f".store.{one}" for one in ("lock", "new", "partial", "previous")
        ]
    assert scene.is_whole(open_store(folder))
    scene.embed(scene.new, folder.parent.name)
    scene.check_finished(folder)


@pytest.mark.parametrize("first", ["no store", "a store", "a store and half a run"])
def test_at_whatever_step_a_run_dies_the_store_is_whole_and_the_next_run_finishes_it(
    first, scene, monkeypatch
):
    """All files are copied before each step: that is what a kill there leaves.

    Half a run is of another catalogue.
    """
    place, copies = scene.folder / first / "store", []
    place.parent.mkdir()
    if first != "no store":
        shutil.copytree(scene.folder / "old" / "store", place)
    if first == "a store and half a run":
        half_a_run(scene, place, monkeypatch)
    with watched(
        place,
        lambda number: copies.append(
            shutil.copytree(place.parent, scene.folder / f"{first} {number}")
        ),
    ) as steps:
        scene.embed(scene.new, first)
    assert len(copies) == len(steps) > 20
    for copied in copies:
        gone = not (copied / "store").exists() and not (copied / ".store.previous").exists()
        # A next run that fails loses nothing either.
        with pytest.raises(ImageError, match="nowhere"):
            scene.embed(scene.new.assign(path=str(scene.folder / "nowhere.png")), copied.name)
        if not gone:
            assert scene.is_whole(open_store(copied / "store"))
        else:
            assert first == "no store"
        scene.embed(scene.new, copied.name)
        scene.check_finished(copied / "store")


def half_a_run(scene, folder, monkeypatch):
    """Leave what a run of another catalogue leaves that is killed while it writes its second batch
    of two rows.

    The next run shares the first two photos with it and has one more, which is not the one whose
    row is there.
    """
    others = make_catalog(scene.folder / "others", 24).iloc[20:]
    shared = scene.new[scene.new["image_id"].isin(["006.png", "007.png"])]
    compile_encoder = embeddings.compile_encoder

    def failing(encoder, **options):
        forward, left = compile_encoder(encoder, **options), [2, 2]
        return lambda pixels: forward(pixels)[: left.pop()]

    with monkeypatch.context() as patch, pytest.raises(IndexError):
        patch.setattr(embeddings, "compile_encoder", failing)
        embed_catalog(TINY, pd.concat([shared, others]), folder, batch_size=2)
    rows = folder.with_name(".store.partial") / "rows.f32"
    os.truncate(rows, 4 * 3072 - 7)  # three rows and a piece
    assert scene.is_whole(open_store(folder))


# --- Two writers, a reader
# -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_of_two_processes_one_waits_and_says_so_and_a_killed_one_is_not_waited_for(
    scene, children, capsys
):
    folder, child = scene.place("both"), children()
    told = f"Another process writes {folder}; waiting for it to remove {folder.with_name('.store.lock')} ...\n"
    with sole_writer(folder):
        tell(child, folder, scene.folder / "new.csv")
        assert child.stdout.readline() == told
        # The old one: readers do not wait.
        assert open_store(folder).manifest == scene.stores[0].manifest
    while child.stdout.readline() != "done\n":
        assert child.poll() is None
    scene.check_finished(folder)
    shutil.rmtree(folder.parent)
    scene.place("both")
    tell(child, folder, scene.folder / "new.csv", pause=100)
    wait_for(folder.with_name(".store.partial").exists)
    waiting, said = threading.Thread(target=scene.embed, args=(scene.new, "both")), []
    waiting.start()
    wait_for(lambda: said.append(capsys.readouterr().out) or told in "".join(said))
    assert waiting.is_alive()
    child.send_signal(signal.SIGKILL)
    waiting.join(120)
    scene.check_finished(folder)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP])
@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_file_system_without_locks_is_written_to_all_the_same(number, scene, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    folder = scene.place(f"no-locks-{number}")
    scene.embed(scene.new, folder.parent.name)
    scene.check_finished(folder)


def test_a_reader_meets_the_old_or_the_new_store_at_whatever_step_they_are_exchanged(scene):
    """The two renames of an exchange, and the removal of the old store, before any two steps of the
    reader.
    """
    for away, back in itertools.product(range(-1, 10), range(10)):
        if back < away:
            continue
        folder = scene.place("read")
        fresh, previous = folder.with_name(".store.new"), folder.with_name(".store.previous")
        shutil.copytree(scene.folder / "fresh" / "store", fresh)

        def exchange(number, away=away, back=back, folder=folder, fresh=fresh, previous=previous):
            if number == away:
                os.rename(folder, previous)
            if number == back:
                os.rename(fresh, folder)
                shutil.rmtree(previous)

        if away == -1:
            exchange(-1)
        with watched(folder, exchange) as steps:
            assert scene.is_whole(open_store(folder)), (away, back)
        shutil.rmtree(folder.parent)
    assert 4 < len(steps) < 10  # so the last exchanges came after the reader's last step


# --- Disks
# ---------------------------------------------------------------------------------------------------------


def fill(disk, *, leave=0):
    with open(disk / "filler", "ab", buffering=0) as stream:
        try:
            while shutil.disk_usage(disk).free > leave:
                stream.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC


def test_at_whatever_step_the_disk_becomes_full_nothing_is_lost_and_the_next_run_finishes(scene):
    with small_disk(scene.folder / "disk", "1m") as disk:
        folder, failed = disk / "store", 0
        shutil.copytree(scene.folder / "old" / "store", folder)
        with watched(folder, lambda now: None) as steps:
            scene.embed(scene.new, "disk")
        # In two pages files are begun, not ended.
        for step, leave in itertools.product(range(len(steps)), (0, 8192)):
            shutil.rmtree(folder)
            shutil.copytree(scene.folder / "old" / "store", folder)
            try:
                with watched(
                    folder,
                    lambda now, step=step, leave=leave: now == step and fill(disk, leave=leave),
                ):
                    scene.embed(scene.new, "disk")
            except OSError as error:
                failed += 1
                assert error.errno == errno.ENOSPC
                assert (
                    f"{folder} is as before. What was computed is kept: free some space; run again."
                    in str(error)
                )
            assert scene.is_whole(open_store(folder)), (step, leave)
            (disk / "filler").unlink(missing_ok=True)
            scene.embed(scene.new, "disk")
            scene.check_finished(folder)
    assert 20 < failed < 2 * len(steps)


# 49,152 bytes a vector.
WIDE = keras.Sequential([keras.Input((64, 64, 3)), keras.layers.Flatten()], name="wide")


def test_vectors_that_will_not_fit_are_refused_before_one_is_computed(
    catalog, tmp_path, monkeypatch
):
    computed, compile_encoder = [], embeddings.compile_encoder

    def counting(encoder, **options):
        forward = compile_encoder(encoder, **options)
        return lambda pixels: computed.append(len(pixels)) or forward(pixels)

    monkeypatch.setattr(embeddings, "compile_encoder", counting)
    with small_disk(tmp_path / "disk", "3m") as disk:
        fill(disk, leave=1_000_000)
        with pytest.raises(
            OSError, match=r"take 1\.18 MB, and 1\.00 MB are free; .*free some space; run again"
        ):
            embed_catalog(WIDE, catalog, disk / "store")
        assert computed == []
        assert os.listdir(disk) == ["filler"]
        (disk / "filler").unlink()
        assert len(embed_catalog(WIDE, catalog, disk / "store").vectors) == 12


def test_a_file_that_may_not_grow_is_an_error_and_the_old_store_stays(catalog, tmp_path):
    """A limit that anybody can set: first the rows do not fit, then they do and the vectors beside
    them do not.
    """
    old = np.array(embed_catalog(WIDE, catalog.iloc[:2], tmp_path / "store").vectors)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (300_000, 550_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
                embed_catalog(WIDE, catalog, tmp_path / "store", batch_size=4)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        np.testing.assert_array_equal(open_store(tmp_path / "store").vectors, old)
    embed_catalog(WIDE, catalog, tmp_path / "store", batch_size=4)
    embed_catalog(WIDE, catalog, tmp_path / "fresh", batch_size=4)
    assert (tmp_path / "store" / "vectors.npy").read_bytes() == (
        tmp_path / "fresh" / "vectors.npy"
    ).read_bytes()


def test_a_folder_that_may_not_be_written_is_named_and_its_store_still_opens(scene, tmp_path):
    with closable(tmp_path / "disk") as (folder, close):
        shutil.copytree(scene.folder / "old" / "store", folder / "store")
        close()
        for name in ("store", "other"):
            told = rf"{folder / name} is as before\. Choose a folder that you may write to; run again\."
            with pytest.raises(OSError, match=told):
                embed_catalog(TINY, scene.new, folder / name)
        assert scene.is_whole(open_store(folder / "store"))
        with pytest.raises(OSError, match="catalog"):
            save_catalog(scene.new, folder / "catalog.csv")
        assert os.listdir(folder) == ["store"]


def test_a_catalogue_or_model_that_finds_no_room_leaves_the_one_before(scene, tmp_path):
    model = build_encoder("VGG16Slim", weights=None, image_size=32)
    with small_disk(tmp_path / "disk", "4m") as disk:
        save_catalog(scene.old, disk / "catalog.csv")
        save_model(TINY, disk / "model.keras", {"kind": "first"})
        fill(disk)
        with pytest.raises(OSError, match="No space left"):
            save_catalog(scene.new, disk / "catalog.csv")
        with pytest.raises(OSError, match="No space left"):
            save_model(model, disk / "model.keras", {"kind": "second"})
        assert (
            read_catalog(disk / "catalog.csv")["image_id"].tolist()
            == scene.old["image_id"].tolist()
        )
        assert load_model(disk / "model.keras")[1]["kind"] == "first"
        assert sorted(os.listdir(disk)) == ["catalog.csv", "filler", "model.json", "model.keras"]
