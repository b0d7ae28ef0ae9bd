"""A folder of photos to rows: which files are photos, and what the folders they lie in say of them.

A folder's name is a side of the split (`train`), a word for photos (`images`), the number of a
product, or a label. A `train` beside a `bus` and a `car` is a label, too.
"""

import os
import re
from collections import defaultdict
from unicodedata import normalize

import pandas as pd

from lookalike.images import PHOTO_SUFFIXES

# What systems put beside photos, and no person; of Kaggle's fashion photos the second copy.
SYSTEM = re.compile(
    r"[.@].*|__macosx|thumbs\.db|desktop\.ini|\$recycle\.bin|~\$.*|system volume information"
    r"|lost\+found|myntradataset",
    re.IGNORECASE,
)
# The names that shops and phones give to smaller copies of a photo, or to a folder of them.
SMALL = re.compile(
    r"[-_](\d{2,}x\d{2,}|thumb|thumbnail|small|medium|large|scaled)$|@\dx$"
    r"|(?<![^/])(thumbs?|thumbnails?|cache)/",
    re.IGNORECASE,
)
# A word for a split, alone or with others: train_set, TrainSet, train2017, 1_Training, seg_train.
SIDE = re.compile(
    r"(?<![a-z])(?:(?P<train>train(?:ing)?)|(?P<validation>val(?:id(?:ation)?)?|dev)"
    r"|(?P<test>test(?:ing)?|eval(?:uation)?|holdout|pred(?:iction)?))(?=sets?|data|im|[^a-z]|$)"
)
# Words for photos, and for a number of them: they say nothing.
FILLER = re.compile(
    r"images?|imgs?|photos?|pictures?|pics?|jpe?gs?|pngs?|data|sets?|products?|catalog|uploads?"
    r"|split|folders?|all|raw|originals?|resized|cropped|final|seg|[\W\d_]"
)
PRODUCT = re.compile(
    r"(id|item|product|prod|sku|style|article)?[-_ #]*([a-z]{0,3}[-_ ]?\d)[\da-z]*", re.I
)


def list_files(root):
    """The photos below `root`, other files, and what could not be listed.

    Links to folders are followed. Of photos by image_id the path.
    """
    photos = {}
    others = []
    errors = []
    for folder, subfolders, files in os.walk(root, onerror=errors.append, followlinks=True):
        subfolders[:] = [name for name in sorted(subfolders) if not SYSTEM.fullmatch(name)]
        for name in sorted(files):
            path = os.path.join(folder, name)
            image_id = _name_in(root, path)
            suffix = os.path.splitext(name)[1].lower()
            if suffix in PHOTO_SUFFIXES and not name.startswith("._"):
                photos[image_id] = path
            elif not SYSTEM.fullmatch(name):
                others.append(image_id)
    rejected = [(_name_in(root, e.filename), f"cannot be listed: {e.strerror}") for e in errors]
    return pd.Series(photos, pd.Index(photos, dtype=object), object, "path"), others, rejected


def _name_in(root, path):
    """A path inside the source, as text that can be saved, letters with marks composed."""
    name = path.removeprefix(root).replace(os.sep, "/").strip("/")
    return normalize("NFC", name).encode("utf-8", "backslashreplace").decode()


def find_thumbnails(image_ids):
    """Photos that are others in a smaller size, by their names and folders."""
    stems = image_ids.str.replace(r"\.\w+$", "", regex=True)
    plain = stems.str.replace(SMALL, "", regex=True)
    return image_ids[(plain != stems) & plain.isin(stems)]


def read_folders(image_ids, label):
    """Label, split and product of each photo by the folders in its name, and how they were found.

    Parameters
    ----------
    image_ids
        Names of photos in their folders, such as `train/shoe/1.jpg`.
    label
        "parent": the folder that a photo lies in; "top": the one furthest above it.

    Returns
    -------
    rows : DataFrame
        By image_id `label`, `split`, `product_id`, None where no folder tells.
    told : str
        What the labels are; empty where there are none.
    """
    folders = [tuple(name.split("/")[:-1]) for name in image_ids]
    beside = defaultdict(set)
    for folder in {*folders}:
        for depth, name in enumerate(folder):
            beside[folder[:depth]].add(name)
    sides = {above: _sides(names) for above, names in beside.items()}
    read = {}
    for folder in {*folders}:
        names = ()
        split = None
        for depth, name in enumerate(folder):
            if name in sides[folder[:depth]]:
                split = sides[folder[:depth]][name]
            elif not _says_nothing(name):
                names += (name,)
        read[folder] = names, split
    # The lowest folders; photos beside folders are of a class of their own.
    ends = {names for names, _ in read.values()}
    ends -= {names[:length] for names in ends for length in range(len(names))}
    # What wraps all of them says nothing.
    wrapper = os.path.commonprefix([*ends])[: min(map(len, ends)) - 1]  # noqa: RUF071
    no_products = {names[:-1] for names in ends if names and not PRODUCT.fullmatch(names[-1])}
    rows = []
    for names, split in map(read.get, folders):
        below = names[len(wrapper) :]
        product = None
        if len(below) > 1 and names in ends and names[:-1] not in no_products:
            product = "/".join(below)
            below = below[:-1]
        kind = None
        if below:
            kind = below[0] if label == "top" else below[-1]
        rows.append((kind, split, product))
    rows = pd.DataFrame(rows, image_ids, ["label", "split", "product_id"], dtype=object)
    told = f"the folders in {'/'.join(wrapper) or 'the source'}"
    return rows, told if rows["label"].any() else ""


def _sides(names):
    """Of folders side by side, those that are splits: they differ in the word for it alone, or
    there is no other.
    """
    groups = defaultdict(dict)
    for name in names:
        if not _says_nothing(name):
            split, rest = _side(name)
            groups[rest][name] = split
    sides = {}
    for rest, group in groups.items():
        splits = {*group.values()}
        alone = len(groups) == 1 and not rest
        if None not in splits and (alone or len(splits) > 1):
            sides |= group
    return sides


def _says_nothing(name):
    """Whether a name is made of words for photos; numbers alone are labels."""
    return _side(name) == (None, "") and not name.isdecimal()


def _side(name):
    """The split that a name tells, or None, and what else it says."""
    name = name.casefold()
    found = SIDE.search(name)
    return found and found.lastgroup, FILLER.sub("", SIDE.sub("", name))


def split_in(name):
    """The split that a name tells and nothing else, such as `Train`, `test_set` or `val2017`."""
    split, rest = _side(name)
    return None if rest else split
