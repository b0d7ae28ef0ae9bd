"""Attacks on what writes a store: kills at every step, full and read-only disks, two processes."""

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

import numpy as np
import pandas as pd
import pytest

from conftest import PROJECT, closable, make_catalog, small_disk, write_photo
from lookalike import embeddings
from lookalike.backbones import build_encoder
from lookalike.catalog import read_catalog, save_catalog
from lookalike.embeddings import embed_catalog, open_store
from lookalike.images import ImageError
from lookalike.saving import load_model, save_model
from lookalike.workspace import sole_writer

CHANGES = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")
watchers = []


class Flat:
    """What a store asks of an encoder, without Keras, which takes seconds to load."""

    name, get_config, get_weights = "flat", dict, list

    def __init__(self, side, pause=0.0):
        self.input_shape = (None, side, side, 3)
        self.output_shape = (None, side * side * 3)
        self.pause, self.photos = pause, 0

    def forward(self, pixels):
        time.sleep(self.pause)
        self.photos += len(pixels)
        return np.float32(pixels).reshape(len(pixels), -1)


def audit(event, arguments):
    """What Python calls before it touches a file; once added, it stays."""
    if watchers and watchers[-1] and event in CHANGES:
        folder, watcher, steps = watchers[-1]
        # A name within a folder that is removed.
        inside = event in ("os.remove", "os.rmdir") and arguments[1] != -1
        named = isinstance(arguments[0], (str, os.PathLike))
        if inside or (named and os.fspath(arguments[0]).startswith(folder)):
            steps.append(event)
            # What the watcher itself does is not watched.
            watchers.append(None)
            try:
                watcher(len(steps) - 1)
            finally:
                watchers.pop()


sys.addaudithook(audit)


@contextmanager
def watched(folder, watcher):
    """Call `watcher` with a number from 0 before each step with files of a store or beside it."""
    steps = []
    watchers.append((os.path.join(os.path.dirname(folder), ""), watcher, steps))
    try:
        yield steps
    finally:
        watchers.pop()


# A child is told what to embed, how slowly, and before which of its steps to kill itself.
CHILD = f"""
import json, os, signal, sys, time
from contextlib import contextmanager
import numpy as np
from lookalike import embeddings
from lookalike.catalog import read_catalog

CHANGES, watchers = {CHANGES}, []
{inspect.getsource(Flat)}
{inspect.getsource(audit)}
{inspect.getsource(watched)}
sys.addaudithook(audit)
embeddings.SHARD = 2
print("ready", flush=True)
job = json.loads(sys.stdin.readline())
def kill(number):
    if number == job["kill"]:
        os.kill(os.getpid(), signal.SIGKILL)
flat, catalog = Flat(16, job["pause"]), read_catalog(job["catalog"])
with watched(job["folder"], kill):
    embeddings.embed_catalog(flat, catalog, job["folder"], forward=flat.forward, batch_size=2)
print("done", flush=True)
"""


class Scene:
    """Photos, a store of an old catalogue, and what an undisturbed run makes of a new one."""

    def __init__(self, folder):
        self.folder = folder
        self.old = make_catalog(folder / "photos", 6)
        # Two are removed, two added, and one is changed.
        new = make_catalog(folder / "photos", 8).iloc[2:]
        new.loc[3, "path"] = str(write_photo(folder / "photos" / "changed.png", 77))
        self.new = new.reset_index(drop=True)
        save_catalog(self.new, folder / "new.csv")
        for name, catalog in (("old", self.old), ("fresh", self.new)):
            self.embed(catalog, name)
        (folder / "old" / "store" / "notes.txt").write_text("mine")
        self.stores = [open_store(folder / name / "store") for name in ("old", "fresh")]

    def embed(self, catalog, name):
        """Embed into a store in a folder of its own; tell how many photos were computed."""
        flat, folder = Flat(16), self.folder / name / "store"
        embed_catalog(flat, catalog, folder, forward=flat.forward, batch_size=2)
        return flat.photos

    def place(self, name):
        """The old store at another place, as deep."""
        return shutil.copytree(self.folder / "old", self.folder / name) / "store"

    def is_whole(self, folder):
        """Whether it is one of the two stores, the old or the new, in all its parts."""
        stores = [open_store(folder), *self.stores]
        told = [(it.vectors.tobytes(), it.manifest, *it.catalog["image_id"]) for it in stores]
        return told[0] in told[1:]

    def finish(self, folder):
        """Run again: the store is then to the byte the one that nobody disturbed, and alone."""
        photos = self.embed(self.new, folder.parent.name)
        for name in ("vectors.npy", "catalog.csv", "manifest.json"):
            assert (folder / name).read_bytes() == (self.stores[1].folder / name).read_bytes()
        assert os.listdir(folder.parent) == ["store"]
        return photos


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embeddings, "SHARD", 2)
        yield Scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def start(scene):
    """Starts a child that embeds the new catalogue into a store of the scene."""
    started, environment = [], os.environ | {"PYTHONPATH": str(PROJECT / "src")}
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}

    def begin(folder, *, pause=0.0, kill=-1):
        child = subprocess.Popen([sys.executable, "-uc", CHILD], env=environment, **options)
        started.append(child)
        assert child.stdout.readline() == "ready\n"
        job = {"folder": str(folder), "catalog": str(scene.folder / "new.csv")}
        child.stdin.write(json.dumps(job | {"pause": pause, "kill": kill}) + "\n")
        child.stdin.flush()
        return child

    yield begin
    for child in started:
        child.kill()
        child.communicate()


def wait_for(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


SOAK = [pytest.param(seed, marks=pytest.mark.soak) for seed in range(8, 80)]


@pytest.mark.parametrize("seed", [*range(8), *SOAK])
def test_a_killed_update_leaves_a_whole_store_and_the_next_run_finishes_it(seed, scene, start):
    """Even seeds: before a step that is drawn, 0 amid the exchange; odd ones: after a time."""
    folder, chance = scene.place(f"killed-{seed}"), random.Random(seed)
    with watched(scene.place(f"counted-{seed}"), lambda number: None) as steps:
        scene.embed(scene.new, f"counted-{seed}")
    # The old one is away, the new one not yet there.
    exchange = len(steps) - 1 - steps[::-1].index("os.rename")
    step = chance.randrange(len(steps)) if seed else exchange
    if seed % 2:
        child = start(folder, pause=0.05)
        time.sleep(chance.uniform(0, 0.3))
        child.send_signal(signal.SIGKILL)
    else:
        child = start(folder, kill=step)
    assert child.wait(120) == -signal.SIGKILL or seed % 2
    assert seed or not folder.exists()
    assert scene.is_whole(folder)
    scene.finish(folder)


STARTS = [("no store", [6, 4, 2, 0]), ("a store", [3, 1, 0]), ("half a run", [2, 0])]


@pytest.mark.parametrize(("first", "left"), STARTS)
def test_at_whatever_step_a_run_dies_nothing_is_lost_and_the_next_one_ends(first, left, scene):
    """All files are copied before each step: that is what a kill there leaves."""
    folder, copies = scene.folder / first / "store", []
    folder.parent.mkdir()
    if first != "no store":
        shutil.copytree(scene.folder / "old" / "store", folder)
    if first == "half a run":
        # Of another catalogue, which shares one photo with the new one.
        others = make_catalog(scene.folder / "others", 24).iloc[20:]
        broken = pd.DataFrame({"image_id": ["x"], "path": [__file__]})
        with pytest.raises(ImageError, match="not an image"):
            scene.embed(pd.concat([scene.new.iloc[-1:], others, broken]), first)

    def copy(number):
        copies.append(shutil.copytree(folder.parent, scene.folder / f"{first} {number}"))

    with watched(folder, copy):
        scene.embed(scene.new, first)
    counts = []
    for copied in copies:
        # A next run that fails loses nothing either.
        with pytest.raises(ImageError, match="nowhere"):
            scene.embed(scene.new.assign(path=str(scene.folder / "nowhere.png")), copied.name)
        there = (copied / "store").exists() or (copied / ".store.previous").exists()
        assert scene.is_whole(copied / "store") if there else first == "no store"
        counts.append(scene.finish(copied / "store"))
        assert (copied / "store" / "notes.txt").exists() == (first != "no store")
    assert counts == sorted(counts, reverse=True)
    assert [*dict.fromkeys(counts)] == left


def test_of_two_processes_one_waits_and_says_so_but_not_for_a_killed_one(scene, start, capsys):
    folder = scene.place("both")
    told = f"Another process writes {folder}; waiting for {folder.with_name('.store.lock')}"
    with sole_writer(folder):
        child = start(folder)
        assert child.stdout.readline().startswith(told)
        # Readers do not wait.
        assert open_store(folder).manifest == scene.stores[0].manifest
    assert child.communicate(timeout=120)[0].endswith("done\n")
    assert scene.finish(folder) == 0
    shutil.rmtree(folder.parent)
    scene.place("both")
    child = start(folder, pause=100)
    wait_for(folder.with_name(".store.partial").exists)
    waiting, said = threading.Thread(target=scene.embed, args=(scene.new, "both")), []
    waiting.start()
    wait_for(lambda: said.append(capsys.readouterr().out) or told in "".join(said))
    assert waiting.is_alive()
    child.send_signal(signal.SIGKILL)
    waiting.join(120)
    assert scene.finish(folder) == 0


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_file_system_without_locks_is_written_to_all_the_same(number, scene, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert scene.finish(scene.place(f"no-locks-{number}")) == 3


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

            def full(now, step=step, leave=leave):
                if now == step:
                    fill(disk, leave=leave)

            try:
                with watched(folder, full):
                    scene.embed(scene.new, "disk")
            except OSError as error:
                failed += 1
                assert f"{folder} is as before. Free some space, or choose" in str(error)
            assert scene.is_whole(folder), (step, leave)
            (disk / "filler").unlink(missing_ok=True)
            scene.finish(folder)
    assert 20 < failed < 2 * len(steps)


def test_a_file_that_may_not_grow_is_an_error_and_the_old_store_stays(catalog, tmp_path):
    # 49,152 bytes a vector: first the ten new ones do not fit, then they do, and all twelve do not.
    folder, flat = tmp_path / "store", Flat(64)
    embed_catalog(flat, catalog.iloc[:2], folder, forward=flat.forward)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (300_000, 550_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(OSError, match=f"{folder} is as before. Free some space"):
                embed_catalog(flat, catalog, folder, forward=flat.forward)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert len(open_store(folder).vectors) == 2
    assert flat.photos == 2 + 10 + 10
    store = embed_catalog(flat, catalog, folder, forward=flat.forward)
    assert (len(store.vectors), flat.photos) == (12, 22)


def test_a_folder_that_may_not_be_written_is_named_and_its_store_still_opens(scene):
    flat = Flat(16)
    with closable(scene.folder / "closed") as (folder, close):
        shutil.copytree(scene.folder / "old" / "store", folder / "store")
        close()
        for name in ("store", "other"):
            told = rf"{folder / name} is as before\. .* choose a folder that you may write to"
            with pytest.raises(OSError, match=told):
                embed_catalog(flat, scene.new, folder / name, forward=flat.forward)
        assert flat.photos == 0
        assert scene.is_whole(folder / "store")
        with pytest.raises(OSError, match="catalog"):
            save_catalog(scene.new, folder / "catalog.csv")
        assert os.listdir(folder) == ["store"]


def test_a_catalogue_or_model_that_finds_no_room_leaves_the_one_before(scene, tmp_path):
    model = build_encoder("VGG16Slim", weights=None, image_size=32)
    with small_disk(tmp_path / "disk", "4m") as disk:
        save_catalog(scene.old, disk / "catalog.csv")
        save_model(model, disk / "model.keras", {"kind": "first"})
        fill(disk)
        with pytest.raises(OSError, match="No space left"):
            save_catalog(scene.new, disk / "catalog.csv")
        with pytest.raises(OSError, match="No space left"):
            save_model(model, disk / "model.keras", {"kind": "second"})
        kept = read_catalog(disk / "catalog.csv")
        assert kept["image_id"].tolist() == scene.old["image_id"].tolist()
        assert load_model(disk / "model.keras")[1]["kind"] == "first"
        assert sorted(os.listdir(disk)) == ["catalog.csv", "filler", "model.json", "model.keras"]
