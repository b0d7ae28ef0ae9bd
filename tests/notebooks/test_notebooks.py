"""Every notebook: its committed form, a quick run on a few photos, and what the runner does when
something is wrong.
"""

import ast
import json
import os
import re
import shlex
import subprocess
import sys

import keras
import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest

from conftest import EXTRAS, PROJECT, quick, skip_without_engines, write_photo
from lookalike.backbones import inner_backbone
from lookalike.catalog import catalog_name, read_catalog, save_catalog
from lookalike.embeddings import embed_catalog, open_store
from lookalike.evaluation import precision_at_k, rank
from lookalike.export.formats import FORMATS
from lookalike.saving import load_model, open_encoder, save_model
from lookalike.sources import load_catalog
from lookalike.splits import split_by_product
from lookalike.workspace import open_workspace

RUNNER = PROJECT / "notebooks" / "run.py"
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
SERIES = [path for path in NOTEBOOKS if path.stem < "09"]
COUNT = 48
MACHINE_PATH = re.compile(r"/(?:home|root|tmp|work|Users|content)/[\w.-]+")


def run(*arguments, cwd=PROJECT, env=None):
    command = [sys.executable, str(RUNNER), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two kinds of photos, told apart by nothing in particular, and one broken file."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(COUNT):
        write_photo(folder / ("cup" if number % 2 else "plate") / f"{number:02}.png", number)
    (folder / "cup" / "broken.jpg").write_text("not a photo")
    return folder


def outputs_of(notebook):
    return [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebook_is_rendered_whole_and_tells_nothing_of_the_machine(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert "widgets" not in notebook.metadata
    assert "papermill" not in notebook.metadata
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    # One title, a question.
    assert [line.endswith("?") for line in text.splitlines() if line.startswith("# ")] == [True]
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    for output in outputs_of(notebook):
        assert output.output_type != "error"
        assert output.get("name") != "stderr"
        text = json.dumps(
            {kind: data for kind, data in output.get("data", {}).items() if "image" not in kind}
        )
        assert not MACHINE_PATH.search(text + output.get("text", ""))
    assert path.stat().st_size < 1_500_000


FLAT = pytest.param(False, id="flat", marks=pytest.mark.soak)


@pytest.fixture(scope="module", params=[pytest.param(True, id="by label"), FLAT])
def series(request, photos, tmp_path_factory):
    """All notebooks in order, in their quick form, on one folder; each reads what the one before
    wrote.
    """
    home = tmp_path_factory.mktemp("home")
    settings = {
        "source": "folder",
        "path": photos if request.param else photos / "cup",
        "backbone": "VGG16Slim",
    }
    settings |= {"weights": "auto", "root": home}
    arguments = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    arguments += ["--output", home / "build", "--solutions"]
    process = run(*(path.stem for path in SERIES), *arguments)
    return request.param, home, process, arguments


def executed(home, name):
    return nbformat.read(home / "build" / f"{name}.ipynb", 4)


def text_of(notebook):
    return "".join(output.get("text", "") for output in outputs_of(notebook))


def test_the_series_runs_on_a_folder_of_ones_own(series):
    labelled, home, process, _ = series
    assert process.returncode == 0, process.stdout + process.stderr
    left_out = {"02_transfer_learning", "03_fine_tuning", "06_evaluation"}
    for path in SERIES:
        told = re.search(rf"\[\d+/{len(SERIES)}\] {path.stem} (.*)", process.stdout)[1]
        if not labelled and path.stem in left_out:
            assert "left out: There must be classes to tell apart" in told
            continue
        assert re.fullmatch(r"\d+ s", told)
        notebook = executed(home, path.stem)
        assert not [output for output in outputs_of(notebook) if output.get("name") == "stderr"]
        assert "<html" in (home / "build" / f"{path.stem}.html").read_text()


def test_the_quickstart_recommends_for_every_photo(series):
    labelled, home, _, _ = series
    table = pd.read_csv(next((home / "embeddings").glob("*-avg/recommendations.csv")))
    assert len(table) == 5 * (COUNT if labelled else COUNT // 2)
    assert (table["image_id"] != table["recommended_image_id"]).all()
    text = text_of(executed(home, "00_quickstart"))
    assert "1 files set aside" in text
    assert ("Precision@5 is" in text) == labelled


def test_the_data_notebook_writes_a_catalogue_with_three_splits(series):
    labelled, home, _, _ = series
    folder = next((home / "data" / "catalogs").iterdir())
    catalog = read_catalog(folder / "catalog.csv")
    assert len(catalog) == (COUNT if labelled else COUNT // 2)
    assert set(catalog["split"]) == {"train", "validation", "test"}
    assert pd.read_csv(folder / "rejected.csv")["image_id"].str.endswith("broken.jpg").tolist() == [
        True
    ]
    assert pd.read_csv(folder / "copies.csv").empty
    assert "5 of 5 planted faults were noticed" in text_of(executed(home, "01_data"))


def test_the_duplicates_notebook_finds_planted_copies_and_lists_none_of_its_own(series):
    _, home, _, _ = series
    text = text_of(executed(home, "07_near_duplicates"))
    wrong, share = re.search(
        r"the package's, .* (\d+) wrong, (\d+\.\d)% of the copies", text
    ).groups()
    assert int(wrong) == 0
    assert float(share) >= 40
    mixed, gone = re.search(r"(\d+) copies were mixed in; (\d+) photos could go", text).groups()
    assert 0 < int(gone) <= int(mixed)
    assert "0 of the pairs are of two different photos" in text
    (could_go,) = (home / "data" / "catalogs").glob("*/near_duplicates.csv")
    assert pd.read_csv(could_go).columns.tolist() == ["keep", "drop", "step", "difference", "why"]
    assert pd.read_csv(could_go).empty


# test_colab.py has a flat one.
LABELLED = pytest.mark.parametrize("series", [True], ids=["by label"], indirect=True)


def run_beyond(series, name, *settings):
    """A notebook that needs more than the others do, on what the series wrote."""
    _, home, process, arguments = series
    assert process.returncode == 0, process.stdout + process.stderr
    skip_without_engines(name)
    process = run(name, *arguments, *settings)
    assert process.returncode == 0, process.stdout + process.stderr
    notebook = executed(home, name)
    assert not [output for output in outputs_of(notebook) if output.get("name") == "stderr"]
    return text_of(notebook), home


@pytest.mark.soak
@LABELLED
def test_an_encoder_leaves_the_notebook_and_stays_the_same(series):
    text, _ = run_beyond(series, "09_export")
    assert re.search(r"32 bits: least cosine 1\.0000\d\d, same top \d+ for 100\.0% of", text)
    assert all(
        re.search(rf"(?m)^{format}: .*, cosine to Keras at least", text) for format in FORMATS
    )
    assert text.count("5 of 5 as by recommend") == 2
    assert "8 of 8 photos get the same name" in text


@pytest.mark.soak
def test_an_engine_that_fails_is_left_out_and_the_rest_goes_on(photos, tmp_path):
    """ONNX has no exact GELU."""
    work = open_workspace(tmp_path)
    name = catalog_name("folder", photos, workspace=work)
    catalog = split_by_product(load_catalog("folder", photos)[0])
    save_catalog(catalog, work.data / "catalogs" / name / "catalog.csv")
    photo = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 5, strides=4, activation="gelu")(photo)
    x = keras.layers.GlobalAveragePooling2D(name="embedding")(x)
    model = keras.Model(photo, keras.layers.Dense(2, activation="softmax")(x), name="exact")
    card = {"backbone": "VGG16Slim", "catalogue": name, "labels": ["cup", "plate"]}
    save_model(model, work.models / name / "model_recommendation.keras", card)
    encoder, _ = open_encoder(work.models, name)
    embed_catalog(encoder, catalog, work.embeddings / f"{name}-{encoder.name}")
    settings = ["source=folder", f"path={photos}", f"root={tmp_path}"]
    arguments = [word for one in settings for word in ("--set", one)]
    skip_without_engines("09_export")
    process = run("09", *arguments, "--output", tmp_path / "build", "--solutions")
    assert process.returncode == 0, process.stdout + process.stderr
    text = text_of(executed(tmp_path, "09_export"))
    assert re.search(r"(?m)^onnx is left out: .*Erfc", text)
    for format in {*FORMATS} - {"onnx"}:
        assert re.search(rf"(?m)^{format} .* may lose \d", text)
    assert re.search(r"serve.py runs ONNX, which is left out: .*Erfc", text)


@pytest.mark.soak
@LABELLED
def test_search_and_embedding_leave_the_machine(series):
    text, home = run_beyond(series, "10_scaling_out", "--set", "largest=20000")
    assert "100.0% of what FAISS finds, in its order, is what we found" in text
    assert f"{COUNT - 2} vectors are left" in text
    assert f"{COUNT} vectors; 5 of 5 are those of the exact search" in text
    assert f"Spark embedded {COUNT} of {COUNT} photos." in text
    (sparks,) = (home / "embeddings").glob("*-spark.npy")
    ours = open_store(sparks.with_name(sparks.name.removesuffix("-spark.npy")))
    assert np.load(sparks) == pytest.approx(np.array(ours.vectors), abs=1e-5)


@pytest.mark.soak
@LABELLED
def test_what_else_can_be_measured_is(series):
    text, _ = run_beyond(series, "11_measuring_further")
    assert float(re.search(r"largest difference (\S+)", text)[1]) < 1e-9
    assert "8 ask, 34 answer" in text
    assert re.search(r"at \d of 6 strengths light is told from luck", text)


KEPT = """
first, second = learn(plain, half), learn(plain, ~half)
hidden = np.where((half | asks)[:, None], 0, plain)
moved = np.abs(learn(hidden, ~half) - second)[~half & ~asks].max()
kept = {name: np.array(values) for name, values in right.items() if isinstance(name, str)}
kept |= {"table": table.iloc[:, 0], "groups": np.array(few["group"], str), "moved": moved}
places = {"half": half, "asked": asked, "answers": np.flatnonzero(~asks), "k": k, "seen": seen}
np.savez(f"{root}/kept.npz", first=first, second=second, **kept, **places)
"""


@pytest.mark.soak
def test_products_are_judged_by_a_network_that_was_taught_none_of_them(tmp_path):
    for number in range(48):
        write_photo(tmp_path / "photos" / f"carton {number % 8}" / f"{number:02}.png", number)
    given = {"source": "folder", "path": str(tmp_path / "photos"), "root": str(tmp_path)}
    settings = (word for name in given for word in ("--set", f"{name}={given[name]}"))
    process = run("01", *settings, "--output", tmp_path)
    assert process.returncode == 0, process.stdout + process.stderr
    notebook = nbformat.read(RUNNER.with_name("12_metric_learning.ipynb"), 4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    solutions = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    notebook.cells += map(nbformat.v4.new_code_cell, [KEPT, *solutions])
    nbformat.write(notebook, tmp_path / "12.ipynb")
    asked = {"kernel_name": "python3", "progress_bar": False, "cwd": str(RUNNER.parent)}
    given["backbone"] = "VGG16Slim"
    papermill.execute_notebook(tmp_path / "12.ipynb", tmp_path / "12.ipynb", given, **asked)
    kept = np.load(tmp_path / "kept.npz")
    half, groups, k, answers = (kept[name] for name in ("half", "groups", "k", "answers"))
    assert {*groups[half]} | {*groups[~half]} == {*groups}
    assert not {*groups[half]} & {*groups[~half]}
    assert not {*kept["asked"]} & {*answers}
    # Whatever the other half shows, or who asks, a network has learnt nothing of it.
    assert kept["moved"] < 1e-5

    def share(vectors, photo):
        gallery = answers[half[answers] == half[photo]]
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        nearest = gallery[np.argsort(-unit[gallery] @ unit[photo], kind="stable")[:k]]
        return (groups[nearest] == groups[photo]).mean()

    frozen = [share(kept["seen"], photo) for photo in kept["asked"]]
    assert kept["frozen"] == pytest.approx(np.array([frozen, frozen]))
    assert [kept["table"][1], kept["table"][9]] == pytest.approx([np.mean(frozen)] * 2)
    for number, (own, other) in enumerate([("second", "first"), ("first", "second")]):
        shares = [share(kept[own if half[photo] else other], photo) for photo in kept["asked"]]
        assert kept["softmax"][number] == pytest.approx(shares)


@pytest.mark.parametrize("name", quick(EXTRAS, "10_scaling_out"))
def test_without_the_engines_a_notebook_tells_at_once_how_to_install_them(name, photos, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "from importlib.machinery import PathFinder\n"
        "found = PathFinder.find_spec\n"
        f"hidden = {EXTRAS[name]}\n"
        "PathFinder.find_spec = lambda name, *rest: None if name in hidden else found(name, *rest)\n"
    )
    settings = (
        "--set",
        "source=folder",
        "--set",
        f"path={photos}",
        "--set",
        f"root={tmp_path}",
        "--output",
        tmp_path,
    )
    process = run(name, *settings, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert process.returncode != 0
    line = "onnx<1.23" if name == "09_export" else "pyspark>=4.0,<5"
    assert re.search(f"ImportError: .* not installed; run: pip install .*{line}", process.stderr)


def test_the_page_answers_what_strangers_send_and_hands_out_no_file(series):
    notebook = executed(series[1], "08_interactive_app")
    text = text_of(notebook)
    assert sum("image/png" in output.get("data", {}) for output in outputs_of(notebook)) == 3
    assert len(re.findall(r"ms\): This photo cannot be used", text)) == 4
    assert re.search(r"a photo \([\d,]+ bytes, \d+ ms\): \d+ x \d+ pixels", text)
    statuses = dict(re.findall(r"(.*): (\d{3}) [A-Z][A-Za-z ]+\n", text))
    assert [what for what in statuses if statuses[what] == "200"] == ["the page", "a thumbnail"]
    assert len(statuses) == 5
    assert re.search(r"check: (\S+ .+|new)", text)
    assert float(re.search(r"A search takes (\d+) ms", text)[1]) > 0


def test_the_trained_model_has_a_card_and_opens_in_safe_mode(series):
    labelled, home, _, _ = series
    assert (home / "models" / "model_recommendation.keras").is_file() == labelled
    if labelled:
        model, card = load_model(home / "models" / "model_recommendation.keras")
        assert card["labels"] == ["cup", "plate"]
        assert (len(card["train_sha256"]), len(card["test_sha256"])) == (34, 8)
        own = home / "models" / card["catalogue"] / "model_recommendation.keras"
        assert load_model(own)[1] == card
        assert model.get_layer("embedding").output.shape == (None, 256)
        assert "largest difference after loading: 0.0e+00" in text_of(
            executed(home, "03_fine_tuning")
        )


@pytest.mark.soak
@pytest.mark.parametrize("on_gpu", [False, True])
def test_the_branches_that_a_reader_in_colab_takes(tmp_path, on_gpu):
    """VGG16 itself, of random weights; and what is done on a GPU, in half precision."""
    for number in range(12):
        write_photo(tmp_path / "photos" / ("cup", "hat")[number % 2] / f"{number:02}.png", number)
    given = {"source": "folder", "path": tmp_path / "photos", "root": tmp_path}
    backbone = {"backbone": "VGG16Slim"}
    if not on_gpu:
        weights = tmp_path / "vgg16.weights.h5"
        keras.applications.VGG16(include_top=False, weights=None).save_weights(weights)
        backbone = {"backbone": "VGG16", "weights": weights}
    for path in SERIES[1:4]:
        notebook = nbformat.read(path, 4)
        for cell in notebook.cells:
            if on_gpu and cell.cell_type == "code":
                cell.source = re.sub(r"(?m)^on_gpu = .*", "on_gpu = True", cell.source)
        nbformat.write(notebook, tmp_path / path.name)
        declared = papermill.inspect_notebook(str(path))
        asked = {name: str(value) for name, value in (given | backbone).items() if name in declared}
        done = papermill.execute_notebook(
            tmp_path / path.name,
            tmp_path / path.name,
            asked,
            kernel_name="python3",
            progress_bar=False,
            cwd=str(RUNNER.parent),
        )
    assert "block5_conv3" in str(done.cells)
    model, card = load_model(tmp_path / "models" / "model_recommendation.keras")
    assert card["backbone"] == backbone["backbone"]
    inner = inner_backbone(model).layers
    assert {layer.dtype_policy.name for layer in inner} == {"float32"}


def test_the_embeddings_notebook_resumes_grows_and_draws_a_map(series):
    labelled, home, _, _ = series
    notebook = executed(home, "04_embeddings")
    text = text_of(notebook)
    assert ("trained on this catalogue by 03" in text) == labelled
    assert ("gem less average" in text) == labelled
    assert re.search(r"ImageError in a catalogue of \d+ photos", text)
    assert float(re.search(r"smallest cosine between the two (\S+)", text)[1]) > 0.99
    assert "Vectors of two encoders cannot be compared" in text
    store = open_store(next((home / "embeddings").glob("*-trained" if labelled else "*-gem")))
    assert len(store.vectors) == (COUNT if labelled else COUNT // 2)
    figures = [output for output in outputs_of(notebook) if "image/png" in output.get("data", {})]
    assert len(figures) == 5


def test_the_recommendations_notebook_agrees_with_its_witness_and_adds_up(series):
    labelled, home, _, _ = series
    text = text_of(executed(home, "05_recommendations"))
    assert "same neighbours for 100.0% of the photos" in text
    sums = re.findall(r"pairs sum to ([\d.]+), cosine ([\d.]+);", text)
    assert sums
    assert all(abs(float(total) - float(cosine)) < 1e-4 for total, cosine in sums)
    assert float(re.search(r"gallery \(\d+, \d+\); largest error (\S+)", text)[1]) < 1e-5
    before, after = re.search(r"colour distance: (\S+) before, (\S+) after", text).groups()
    assert float(after) <= float(before)
    table = pd.read_csv(
        next((home / "embeddings").glob("*-trained" if labelled else "*-gem"))
        / "recommendations.csv"
    )
    assert set(table["rank"]) == {1, 2, 3, 4, 5}


def test_the_evaluation_notebook_judges_all_encoders_there_are(series):
    labelled, home, _, _ = series
    if not labelled:
        return
    (file,) = (home / "embeddings").glob("*-trained/evaluation.csv")
    table = pd.read_csv(file, index_col="encoder")
    encoders = ["guessing", "colour histogram", "untrained", "frozen", "head", "fine-tuned"]
    assert list(table.index) == [*encoders, "logistic regression", "fine-tuned + colour"]
    assert table["class right"].between(0, 1).all()
    assert (table["colour distance"] > 0).all()
    text = text_of(executed(home, "06_evaluation"))
    assert "8 test photos: 0 that the model learnt from, 0 with a copy" in text
    assert "48 photos kept: 8 ask, 34 answer" in text
    # There is no column of colours here.
    assert "both right" not in table


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A catalogue in which each photo is a product, and a model that has learnt from it."""
    home = tmp_path_factory.mktemp("taught")
    for number in range(120):
        kind = ("cup", "plate")[number % 2]
        write_photo(home / "photos" / kind / f"{number:03}.png", number)
    settings = ["source=folder", f"path={home / 'photos'}", "backbone=VGG16Slim", f"root={home}"]
    arguments = [word for one in settings for word in ("--set", one)]
    arguments += ["--output", home / "build"]
    process = run("01", "02", "03", *arguments)
    assert process.returncode == 0, process.stdout + process.stderr
    return home, arguments


def add_photos(home):
    for number in range(120, 220):
        kind = ("cup", "plate")[number % 2]
        write_photo(home / "photos" / kind / f"{number:03}.png", number)


def rename_folders(home):
    (home / "photos" / "cup").rename(home / "photos" / "a mug")


def deal_anew(home):
    (file,) = (home / "data" / "catalogs").glob("*/catalog.csv")
    catalog = read_catalog(file)
    dealt = split_by_product(catalog.assign(split=None), seed=1)
    save_catalog(dealt, file)


CHANGES = [add_photos, rename_folders, deal_anew]


@pytest.mark.parametrize("change", quick(CHANGES, deal_anew))
def test_a_model_is_judged_on_photos_alone_that_it_did_not_learn_from(taught, change):
    home, arguments = taught
    change(home)
    process = run(*(["06"] if change is deal_anew else ["01", "06"]), *arguments)
    _, card = load_model(home / "models" / "model_recommendation.keras")
    (folder,) = (home / "data" / "catalogs").glob("*")
    catalog = read_catalog(folder / "catalog.csv")
    asks = catalog["split"] == "test"
    learnt = catalog["sha256"].isin(card["train_sha256"])
    # The split is by a hash of the name, so that photos that are added move few of the others.
    assert (asks & learnt).any() == (change is not add_photos)
    new = np.flatnonzero(asks & ~learnt)
    if len(new) < 6:
        assert "Too few test photos are new to the model. Run 01 to 04 again." in process.stderr
        return
    assert process.returncode == 0, process.stdout + process.stderr
    told = f"{asks.sum()} test photos: {(asks & learnt).sum()} that the model learnt from"
    assert told in text_of(executed(home, "06_evaluation"))
    (file,) = (home / "embeddings").glob("*-trained/evaluation.csv")
    store = open_store(file.parent)
    honest = rank(store.vectors, store.catalog, 10, queries=new, gallery_split="train")
    expected = precision_at_k(honest.relevant, 10).mean()
    found = pd.read_csv(file, index_col="encoder").loc["fine-tuned", "class right"]
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_data_notebook_reports_copies_and_keeps_them_on_one_side(tmp_path):
    for number in range(20):
        write_photo(tmp_path / "photos" / "train" / "plate" / f"{number:02}.png", number)
        write_photo(tmp_path / "photos" / "test" / "cup" / f"{number:02}.png", 100 + number)
    write_photo(tmp_path / "photos" / "test" / "cup" / "copy.png", 3)
    settings = (f"path={tmp_path / 'photos'}", "label=top", f"root={tmp_path}")
    process = run(
        "01",
        *(word for setting in settings for word in ("--set", setting)),
        "--output",
        tmp_path / "build",
    )
    assert process.returncode == 0, process.stdout + process.stderr
    folder = next((tmp_path / "data" / "catalogs").iterdir())
    copies = pd.read_csv(folder / "copies.csv")
    assert copies[["image_id", "other_id", "step", "labels_differ"]].to_numpy().tolist() == [
        ["test/cup/copy.png", "train/plate/03.png", "content", True]
    ]
    split = read_catalog(folder / "catalog.csv").set_index("image_id")["split"]
    assert split["test/cup/copy.png"] == "train"
    assert split.value_counts().to_dict() == {"train": 21, "test": 20}
    assert pd.read_csv(folder / "rejected.csv").empty


def test_the_data_notebook_reads_tiny_photos_and_a_single_one(tmp_path):
    for place, count in {"tiny": 3, "single": 1}.items():
        for number in range(count):
            write_photo(tmp_path / place / f"cup {number}" / "a.png", number, size=28)
        settings = ("--set", f"path={tmp_path / place}", "--set", f"root={tmp_path}")
        process = run("01", *settings, "--output", tmp_path / "build")
        assert process.returncode == 0, process.stdout + process.stderr


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_quickstart_runs_on_next_to_nothing(count, tmp_path):
    for number in range(count):
        write_photo(tmp_path / "a few $ photos" / f"cup {number}" / "a.png", number)
    settings = (f"path={tmp_path / 'a few $ photos'}", "backbone=VGG16Slim", f"root={tmp_path}")
    process = run(
        "00",
        *(word for setting in settings for word in ("--set", setting)),
        "--output",
        tmp_path / "build",
    )
    assert process.returncode == 0, process.stdout + process.stderr
    notebook = nbformat.read(tmp_path / "build" / "00_quickstart.ipynb", 4)
    assert not [output for output in outputs_of(notebook) if output.get("name") == "stderr"]


def test_a_value_of_another_type_is_refused():
    assert "top_n is a number, not 'many'" in run("05", "--set", "top_n=many").stderr


def test_a_parameter_that_no_cell_declares_is_an_error_before_anything_runs(tmp_path):
    process = run("00", "--set", "sorce=folder", "--output", tmp_path)
    assert process.returncode != 0
    assert "no parameter 'sorce'" in process.stderr
    assert "source" in process.stderr
    assert not list(tmp_path.iterdir())


def test_a_failing_cell_fails_the_run_with_its_error(tmp_path):
    process = run(
        "00",
        "--set",
        "source=folder",
        "--set",
        f"path={tmp_path / 'nowhere'}",
        "--output",
        tmp_path / "build",
    )
    assert process.returncode != 0
    assert "load_catalog" in process.stderr
    assert re.search(r"FileNotFoundError: No folder and no archive at .*nowhere", process.stderr)


def test_an_unknown_notebook_and_a_setting_without_a_value_are_refused():
    assert "No notebook starts with '99'" in run("99").stderr
    assert "name=value" in run("00", "--set", "source").stderr


def test_defaults_of_every_notebook_are_declared():
    for path in NOTEBOOKS:
        declared = papermill.inspect_notebook(str(path))
        assert {"source", "path", "root"} <= declared.keys()
        assert declared["source"]["default"] == '"auto"'


@pytest.mark.parametrize(("name", "extra"), [("09_export", "export"), ("10_scaling_out", "scale")])
def test_on_colab_the_engines_are_installed_that_the_project_names(name, extra):
    declared = re.search(rf"(?ms)^{extra} = (\[.*?\])", (PROJECT / "pyproject.toml").read_text())[1]
    packages = {re.match(r"[\w-]+", needed)[0]: needed for needed in ast.literal_eval(declared)}
    cells = nbformat.read(PROJECT / "notebooks" / f"{name}.ipynb", 4).cells
    (cell,) = (cell for cell in cells if "book-engines" in cell.metadata.get("tags", []))
    installed = shlex.split(cell.source.partition("%pip install --quiet ")[2])
    assert {re.match(r"[\w-]+", word)[0] for word in installed} == set(packages)
    for word in installed:
        assert word in (packages[re.match(r"[\w-]+", word)[0]], re.match(r"[\w-]+", word)[0])


@pytest.mark.soak
@LABELLED
def test_the_page_notebook_takes_a_photo_of_ones_own(series, photos):
    run_beyond(series, "08_interactive_app", "--set", f"photo={next(photos.rglob('*.png'))}")
