"""Attacks on what writes a store: ends at every step, full and read-only disks, two writers."""

import errno
import fcntl
import itertools
import os
import resource
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from conftest import closable, make_catalog, small_disk, write_photo
from lookalike import embeddings
from lookalike.catalog import save_catalog
from lookalike.embeddings import embed_catalog, open_store
from lookalike.workspace import sole_writer

CHANGES = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")
watchers = []


class Flat:
    """What a store asks of an encoder."""

    name, get_config, get_weights = "flat", dict, list

    def __init__(self, side):
        self.input_shape = (None, side, side, 3)
        self.output_shape = (None, side * side * 3)
        self.photos = 0

    def forward(self, pixels):
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


@pytest.fixture(scope="module", autouse=True)
def small_shards():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embeddings, "SHARD", 2)
        yield


@pytest.fixture(scope="module")
def scene(small_shards, tmp_path_factory):
    return Scene(tmp_path_factory.mktemp("scene"))


@pytest.mark.parametrize(("first", "left"), [("no store", [6, 4, 2, 0]), ("a store", [3, 1, 0])])
def test_at_whatever_step_a_run_dies_nothing_is_lost_and_the_next_one_ends(first, left, scene):
    """All files are copied before each step: that is what a kill there leaves."""
    folder, copies = scene.folder / first / "store", []
    folder.parent.mkdir()
    if first == "a store":
        shutil.copytree(scene.folder / "old" / "store", folder)

    def copy(number):
        copies.append(shutil.copytree(folder.parent, scene.folder / f"{first} {number}"))

    with watched(folder, copy):
        scene.embed(scene.new, first)
    counts = []
    for copied in copies:
        there = (copied / "store").exists() or (copied / ".store.previous").exists()
        assert scene.is_whole(copied / "store") if there else first == "no store"
        counts.append(scene.finish(copied / "store"))
        assert (copied / "store" / "notes.txt").exists() == (first == "a store")
    assert counts == sorted(counts, reverse=True)
    assert [*dict.fromkeys(counts)] == left


def test_of_two_that_write_one_store_one_waits_and_says_so(scene, capsys):
    folder = scene.place("both")
    told = f"Another process writes {folder}; waiting for {folder.with_name('.store.lock')}"
    with ThreadPoolExecutor() as pool:
        with sole_writer(folder):
            other = pool.submit(scene.embed, scene.new, "both")
            time.sleep(1.5)
            assert not other.done()
            # Readers do not wait.
            assert open_store(folder).manifest == scene.stores[0].manifest
        assert other.result() == 3
    assert told in capsys.readouterr().out
    assert scene.finish(folder) == 0


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_file_system_without_locks_is_written_to_all_the_same(scene, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert scene.finish(scene.place("no-locks")) == 3


def fill(disk, *, leave=0):
    with open(disk / "filler", "ab", buffering=0) as stream:
        try:
            while shutil.disk_usage(disk).free > leave:
                stream.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC


def test_wherever_the_disk_becomes_full_nothing_is_lost_and_the_next_run_finishes(scene):
    with small_disk(scene.folder / "disk", "1m") as disk:
        folder, failed = disk / "store", 0
        shutil.copytree(scene.folder / "old" / "store", folder)
        with watched(folder, lambda now: None) as steps:
            scene.embed(scene.new, "disk")
        # In two pages files are begun, not ended.
        for step, leave in itertools.product(range(0, len(steps), 5), (0, 8192)):
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
    assert failed > 3


def test_a_file_that_may_not_grow_is_an_error_and_the_old_store_stays(catalog, tmp_path):
    # 49,152 bytes a vector: two to a shard fit, and all twelve do not.
    folder, flat = tmp_path / "store", Flat(64)
    embed_catalog(flat, catalog.iloc[:2], folder, forward=flat.forward)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (550_000, before[1]))
    try:
        with pytest.raises(OSError, match=f"{folder} is as before. Free some space"):
            embed_catalog(flat, catalog, folder, forward=flat.forward)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(open_store(folder).vectors) == 2
    store = embed_catalog(flat, catalog, folder, forward=flat.forward)
    assert (len(store.vectors), flat.photos) == (12, 12)


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
