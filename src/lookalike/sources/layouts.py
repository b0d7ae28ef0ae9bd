"""A folder of photos to rows: which files are photos, and what the folders they lie in say of them.

A folder's name is a side of the split (`train`), a word for photos (`images`), a companion of
theirs (`masks`), the number of a product, or a label. Which one also depends on the folders beside
it: a `train` beside a `bus` and a `car` is a label.
"""

import itertools
import os
import re
from collections import defaultdict
from contextlib import suppress
from unicodedata import normalize

import pandas as pd
from PIL import Image

from lookalike.images import FORMATS, PHOTO_SUFFIXES
from lookalike.splits import SPLITS

# What systems put beside photos, and no person; of Kaggle's fashion photos the second copy.
SYSTEM = re.compile(
    r"__macosx|\._.*|\.ds_store|thumbs\.db|ehthumbs.*|desktop\.ini|\$recycle\.bin|#recycle|~\$.*"
    r"|lost\+found|system volume information|myntradataset"
    r"|\.(git|svn|venv|idea|vscode|config|trash.*|spotlight.*|fseventsd"
    r"|temporaryitems|appledouble|dropbox.*|.*_cache|ipynb_checkpoints)",
    re.IGNORECASE,
)
# The names that shops, phones and disks give to smaller copies of a photo.
SMALL_FOLDER = re.compile(r"(.*/)?(@eadir|\.?@__thumb|\.?thumbs?|\.?thumbnails?|\.?cache)/.*", re.I)
SIZED = re.compile(
    r"([-_.](\d{2,}x\d*|\d*x\d{2,})|@\dx"
    r"|[-_.](thumbs?|thumbnails?|tn|small|medium|large|grande|compact"
    r"|icon|preview|scaled)|[-_](small|medium|large|home|cart|thickbox|category|stores?)_default)$"
)
# A word for a split, alone or with a word for photos: train_set, TrainSet, train2017, seg_train.
SIDE = re.compile(
    r"(?<![a-z])(?:(?P<train>train(?:val|ing|ings)?|trn|训练|entra[iî]nement|entrenamiento)"
    r"|(?P<validation>val(?:id(?:ation|ate)?)?|dev|验证|validierung|validación)"
    r"|(?P<test>tests?|testing|测试|tst|eval(?:uation)?|holdout|query|gallery|prueba)"
    r"|(?P<unknown>pred(?:iction)?s?|unlabell?ed))(?=sets?|dat|db|im|[^a-z]|$)"
)
FILLERS = (
    "集|images?|imgs?|photos?|pictures?|pics?|jpe?gs?|pngs?|jpegimages|data|daten|db|datasets?"
    "|products?|catalog|catalogue|uploads?|dcim|sets?|split|folders?|all|raw"
    "|originals?|compressed|resized"
    "|small|medium|large|cropped|processed|full|new|final|seg|parts?|folds?|batch"
)
FILLER = re.compile(rf"({FILLERS})|[\W\d_]+")
IMAGES = re.compile(rf"[-_ \d()]*(({FILLERS})[-_ \d()]*)+|.*images_part_\d+", re.IGNORECASE)
COMPANION = re.compile(
    r"annotations?|(seg)?masks?|labels?|trimaps?|seg(mentation)?(s|class|object|im)?"
    r"|ground_?truth|gt|bbox(es)?|depth",
    re.IGNORECASE,
)
# The folders of telephones and calendars: 2024/05, 100APPLE, Photos from 2021.
DATE = re.compile(
    r"(.*/)?((19|20)\d\d([-_.]?\d\d){0,2}(/\d\d)?|\d{3}[A-Z_]{5}|(photos|fotos) (from|von) \d+)",
    re.IGNORECASE,
)
# Folders that only share files out, by the letters that their names begin with: s/h/shoe.jpg.
SHARDS = re.compile(
    r"(?<![^/])(?:(\w)/(\w)/(\w)/(?=\1\2\3)|(\w{1,3})/(\w{1,3})/(?=\4\5))", re.IGNORECASE
)
PRODUCT = re.compile(
    r"(id|item|product|prod|sku|style|article)?[-_ #]*([a-z]{0,3}[-_ ]?\d)[\da-z]*", re.I
)
# A photo's name that ends in a number, after what may be its label.
NUMBERED = re.compile(r"(?:^|/)([^\W\d][^\d/]*?)[-_. ]*\(?\d+\)?\.\w+$")
CAMERA = rf"(?i:{IMAGES.pattern}|dsc[nf]?|pxl|mvimg|screenshot|frame|front|back|side|detail|view)"


def list_files(root):
    """The photos below `root`, other files and empty folders, and what could not be listed.

    Links to folders are followed, but no folder is entered twice. Of photos by image_id the path.
    """
    photos = {}
    others = []
    errors = []
    entered = set()
    for folder, subfolders, files in os.walk(root, onerror=errors.append, followlinks=True):
        here = os.path.realpath(folder)
        subfolders[:] = sorted(itertools.filterfalse(SYSTEM.fullmatch, subfolders))
        if here in entered:
            subfolders[:] = files = []
        elif not files and not subfolders:
            others.append(_name_in(root, folder))
        entered.add(here)
        for name in sorted(itertools.filterfalse(SYSTEM.fullmatch, files)):
            path = os.path.join(folder, name)
            image_id = _name_in(root, path)
            if not _is_photo(path):
                others.append(image_id)
            else:
                # Two spellings of a mark make two files of one name.
                photos[f"{image_id} (2)" if image_id in photos else image_id] = path
    rejected = [(_name_in(root, e.filename), f"cannot be listed: {e.strerror}") for e in errors]
    return pd.Series(photos, pd.Index(photos, dtype=object), object, "path"), others, rejected


def _name_in(root, path):
    """A path inside the source, as text that can be saved, letters with marks composed."""
    name = path.removeprefix(root).replace(os.sep, "/").strip("/")
    return normalize("NFC", name).encode("utf-8", "backslashreplace").decode()


def _is_photo(path):
    """By the ending of its name; where that says nothing, by its first bytes."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix or not os.path.isfile(path):
        return suffix in PHOTO_SUFFIXES
    with suppress(Exception), Image.open(path, formats=FORMATS):
        return True
    return False


def find_thumbnails(image_ids):
    """Photos that are others in a smaller size, and which, by their names and folders."""
    stems = image_ids.str.casefold().str.replace(r"\.\w+$", "", regex=True)
    plain = stems.str.replace(SIZED, "", regex=True)
    small = ((plain != stems) & plain.isin(stems)) | image_ids.str.fullmatch(SMALL_FOLDER)
    return {} if small.all() else dict(zip(image_ids[small], plain[small], strict=True))


def read_folders(image_ids, label="parent"):
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
        By image_id `label`, `split`, `product_id`, None where no folder tells. A split may be
        "companion": of masks and the like, which are no photos of products.
    told : str
        What the labels are; empty where there are none.
    """
    folders = [f"/{SHARDS.sub('', name)}".rpartition("/")[0] for name in image_ids]
    roles = _roles({*folders})
    read = []
    for folder in folders:
        names, split, path = (), None, ""
        for name in folder.split("/")[1:]:
            path += f"/{name}"
            if roles[path] == "label":
                names += (name,)
            elif roles[path] != "images":
                split = roles[path]
        read.append((names, split))
    ends = {names for names, split in read if split != "companion"} or {()}
    ends -= {names[:length] for names in ends for length in range(len(names))}
    # What wraps all of them says nothing.
    wrapper = os.path.commonprefix([*ends])[: min(map(len, ends)) - 1]  # noqa: RUF071
    no_products = {names[:-1] for names in ends if names and not PRODUCT.fullmatch(names[-1])}
    rows = []
    for names, split in read:
        below = names[len(wrapper) :]
        product = None
        if len(below) > 1 and names in ends and names[:-1] not in no_products:
            product, below = "/".join(below), below[:-1]
        kind = below[0 if label == "top" else -1] if below else None
        rows.append((kind, split, product))
    rows = pd.DataFrame(rows, image_ids, ["label", "split", "product_id"], dtype=object)
    told = f"the folders in {'/'.join(wrapper) or 'the source'}"
    if ends == {()}:
        rows["label"] = _labels_in_names(image_ids)
        told = "what the file names begin with"
    rows["split"] = rows["split"].replace("unknown", None)
    return rows, told if rows["label"].any() else ""


def _roles(folders):
    """What the name of each folder is: a split, "images", "companion" or "label"."""
    beside = defaultdict(set)
    for folder in folders:
        while folder:
            folder, _, name = folder.rpartition("/")
            beside[folder].add(name)
    known = {name for names in beside.values() for name in _sides(names)}
    roles = {}
    for above, names in [*beside.items()]:
        sides = _sides(names)
        general = {
            name: "images"
            for name in names
            if IMAGES.fullmatch(name) or DATE.fullmatch(f"{above}/{name}")
        }
        if sides or general:
            general |= {name: "companion" for name in names if COMPANION.fullmatch(name)}
        others = names - general.keys()
        # A side beside classes, with the same classes in it.
        sides |= {
            name: split_in(name)
            for name in names
            if split_in(name) and beside[f"{above}/{name}"] & others
        }
        if len(others) == 1 and (others <= known or all(map(split_in, others))):
            sides = {name: _side(name)[0] for name in others}
        if others and not sides:
            general = {}
        roles |= {f"{above}/{name}": {**general, **sides}.get(name, "label") for name in names}
    return roles


def _sides(names):
    """Of folders side by side those that differ in a word for a split alone, and which it is."""
    groups = defaultdict(dict)
    for name in names:
        side, rest = _side(name)
        groups[rest, bool(side)][name] = side
    groups = [group for group in groups.values() if len({*group.values()}) > 1]
    return {name: side for group in groups for name, side in group.items()}


def _side(name):
    """The split that a name tells, or None, and what else it says."""
    found = SIDE.search(name.casefold())
    return found and found.lastgroup, FILLER.sub("", SIDE.sub("", name.casefold()))


def split_in(name):
    """The split that a name tells and nothing else, such as `Train`, `test_set` or `val2017`."""
    side, rest = _side(name)
    return side if side in SPLITS and not rest else None


def _labels_in_names(image_ids):
    """What comes before the number in names such as `cat.0.jpg`, where it sorts the photos."""
    names = pd.Series(image_ids.str.extract(NUMBERED, expand=False), image_ids, dtype=object)
    names = names.mask(names.str.fullmatch(CAMERA).astype(bool), None)
    counts = names.value_counts()
    sorts = len(counts) > 1 and counts.min() > 1 and 2 * counts.sum() >= len(names)
    return names if sorts else None
