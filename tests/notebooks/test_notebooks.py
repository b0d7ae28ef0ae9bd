"""Every notebook, as committed and on a few photos; what run.py does when something is wrong."""

import json
import re
import shutil
import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
import run as runner

from conftest import PROJECT, skip_without_engines, write_photo
from lookalike.backbones import inner_backbone
from lookalike.catalog import read_catalog, save_catalog
from lookalike.embeddings import open_store
from lookalike.evaluation import precision_at_k, rank
from lookalike.export.formats import FORMATS
from lookalike.saving import load_model

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
SERIES = [path.stem for path in NOTEBOOKS if path.stem < "09"]
EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
# As few as leave six products to judge by, of which an interval can be told.
COUNT = 36
SPLIT = {"train": 26, "test": 6}
MACHINE_PATH = re.compile(r"/(?:home|root|tmp|work|Users|content)/[\w.-]+")


def run(names, home, **given):
    """Run notebooks by run.py, with their solutions, in a project of their own."""
    command = [sys.executable, str(PROJECT / "notebooks" / "run.py"), *names]
    command += ["--solutions", "--output", str(home / "build")]
    for name, value in (given | {"root": home}).items():
        command += ["--set", f"{name}={value}"]
    return subprocess.run(command, capture_output=True, text=True)


def well(names, home, **given):
    """The same, where it has to succeed: what run.py says, and the notebooks as they then are."""
    process = run(names, home, **given)
    assert process.returncode == 0, process.stdout + process.stderr
    paths = [path for path in NOTEBOOKS if path.stem.startswith(tuple(names))]
    done = [home / "build" / path.name for path in paths]
    notebooks = [nbformat.read(path, 4) for path in done if path.is_file()]
    for notebook in notebooks:
        assert not [output for output in outputs_of(notebook) if output.get("name") == "stderr"]
    return process.stdout, notebooks


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def markdown_of(notebook):
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    return "\n\n".join(cells)


def outputs_of(notebook):
    return [output for cell in code_of(notebook) for output in cell.outputs]


def text_of(notebook):
    return "".join(output.get("text", "") for output in outputs_of(notebook))


def executed(home, name):
    return nbformat.read(home / "build" / f"{name}.ipynb", 4)


@EACH
def test_committed_notebook_is_rendered_whole_and_tells_nothing_of_the_machine(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    code = code_of(notebook)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not {"widgets", "papermill"} & notebook.metadata.keys()
    titles = re.findall(r"(?m)^# .*", markdown_of(notebook))
    assert [title.endswith("?") for title in titles] == [True]
    for output in outputs_of(notebook):
        assert output.output_type != "error"
        assert output.get("name") != "stderr"
        data = output.get("data", {})
        text = json.dumps({kind: data[kind] for kind in data if "image" not in kind})
        assert not MACHINE_PATH.search(text + output.get("text", ""))
    assert path.stat().st_size < 1_500_000
    declared = papermill.inspect_notebook(str(path))
    assert {"path", "root"} <= declared.keys()
    assert declared["source"]["default"] == '"auto"'


# A number, but none of a name: neither notebook 05, block3_conv3 nor Precision@10.
NUMBER = r"(?<![\w@.])(?!0\d)(\d+(?:,\d{3})*(?:\.\d+)?)(\s?%)?(?!\w)"
PRINTED = r"(\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]\d+)?)(\s?%)?"
SENTENCE = r"(?is)\bon the sample\b(?! \|).*?[.?!](?=[\s)]|$)"


def unsupported(text, printed):
    """The sentences about the sample that quote a number which was not printed, nor rounds to it.

    37 % may have been printed as 0.37, and the other way round.
    """
    values = []
    for number, percent in re.findall(PRINTED, printed):
        value = float(number.replace(",", ""))
        values += [value, value / 100] if percent else [value]
    values, wrong = np.array(values), []
    for sentence in re.findall(SENTENCE, text):
        for number, percent in re.findall(NUMBER, sentence):
            value, digits = float(number.replace(",", "")), len(number.partition(".")[2])
            said = [(value, digits), (value / 100, digits + 2)] if percent else [(value, digits)]
            near = [np.abs(values - one) <= 0.5 * 10.0**-digits + 1e-9 for one, digits in said]
            if not np.any(near):
                wrong.append(f"{number}: {' '.join(sentence.split())}")
    return wrong


@EACH
def test_what_is_quoted_of_the_sample_was_printed(path):
    notebook, printed = nbformat.read(path, 4), []
    for output in outputs_of(notebook):
        data = output.get("data", {})
        table = re.sub(r"(?s)<style.*?</style>|<.*?>", " ", data.get("text/html", ""))
        printed.append(output.get("text") or table or data.get("text/plain", ""))
    assert unsupported(markdown_of(notebook), " ".join(printed)) == []


def test_a_number_that_was_not_printed_is_told():
    true = "Of 7. On the sample, 0.91 are right, 37 % and\n0.037, by Precision@10 of 05. Of 8."
    assert unsupported(true, "precision 0.9063, 0.374, change -0.0372") == []
    assert unsupported(true, "precision 91 %, 37.2%, 3.7%") == []
    assert len(unsupported(true, "0.92, 38 %, 0.036, 0.9, 91")) == 3


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two kinds of photos, told apart by nothing in particular; one is there twice, one broken."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(COUNT - 1):
        write_photo(folder / ("cup" if number % 2 else "plate") / f"{number:02}.png", number)
    shutil.copyfile(folder / "plate" / "02.png", folder / "cup" / "copy.png")
    (folder / "cup" / "broken.jpg").write_text("not a photo")
    return folder


@pytest.fixture(scope="module")
def given(photos):
    return {"source": "folder", "path": photos, "backbone": "VGG16Slim"}


@pytest.fixture(scope="module")
def home(given, tmp_path_factory):
    """Where 00 to 08 have run in order, each on what those before wrote."""
    home = tmp_path_factory.mktemp("home")
    told, _ = well(SERIES, home, planted=4, weights="auto", **given)
    assert re.findall(r"\[\d/9\] (\w+) \d+ s\n", told) == SERIES
    pages = {path.stem: path.read_text("utf-8") for path in (home / "build").glob("*.html")}
    assert pages.keys() == {*SERIES, "glossary"}
    assert all("<html" in page for page in pages.values())
    return home


def test_the_quickstart_recommends_for_every_photo(home):
    table = pd.read_csv(next((home / "embeddings").glob("*-avg/recommendations.csv")))
    assert len(table) == 5 * COUNT
    assert (table["image_id"] != table["recommended_image_id"]).all()
    text = text_of(executed(home, "00_quickstart"))
    assert "1 files set aside" in text
    assert "Precision@5 is" in text


def test_the_data_notebook_writes_splits_and_reports_copies_and_what_cannot_be_read(home):
    (folder,) = (home / "data" / "catalogs").iterdir()
    split = read_catalog(folder / "catalog.csv").set_index("image_id")["split"]
    assert len(split) == COUNT
    assert split["cup/copy.png"] == split["plate/02.png"]
    copies = pd.read_csv(folder / "copies.csv")
    told = copies[["image_id", "other_id", "labels_differ"]].to_numpy().tolist()
    assert told == [["cup/copy.png", "plate/02.png", True]]
    assert pd.read_csv(folder / "rejected.csv")["image_id"].tolist() == ["cup/broken.jpg"]
    assert "5 of 5 planted faults were noticed" in text_of(executed(home, "01_data"))


def test_the_trained_model_has_a_card_and_opens_in_safe_mode(home):
    model, card = load_model(home / "models" / "model_recommendation.keras")
    assert card["labels"] == ["cup", "plate"]
    assert (len(card["train_sha256"]), len(card["test_sha256"])) == (SPLIT["train"], SPLIT["test"])
    own = home / "models" / card["catalogue"] / "model_recommendation.keras"
    assert load_model(own)[1] == card
    assert model.get_layer("embedding").output.shape == (None, 256)
    text = text_of(executed(home, "03_fine_tuning"))
    assert "largest difference after loading: 0.0e+00" in text


def test_the_embeddings_notebook_resumes_grows_and_draws_a_map(home):
    notebook = executed(home, "04_embeddings")
    text = text_of(notebook)
    assert "trained on this catalogue by 03" in text
    assert "gem less average" in text
    assert re.search(r"ImageError in a catalogue of \d+ photos", text)
    assert float(re.search(r"smallest cosine between the two (\S+)", text)[1]) > 0.99
    assert "Vectors of two encoders cannot be compared" in text
    store = open_store(next((home / "embeddings").glob("*-trained")))
    assert len(store.vectors) == COUNT
    assert sum("image/png" in output.get("data", {}) for output in outputs_of(notebook)) == 5


def test_the_recommendations_notebook_agrees_with_its_witness_and_adds_up(home):
    text = text_of(executed(home, "05_recommendations"))
    assert "same neighbours for 100.0% of the photos" in text
    sums = re.findall(r"pairs sum to ([\d.]+), cosine ([\d.]+);", text)
    assert sums
    assert all(abs(float(total) - float(cosine)) < 1e-4 for total, cosine in sums)
    assert float(re.search(r"gallery \(\d+, \d+\); largest error (\S+)", text)[1]) < 1e-5
    before, after = re.search(r"colour distance: (\S+) before, (\S+) after", text).groups()
    assert float(after) <= float(before)
    (file,) = (home / "embeddings").glob("*-trained/recommendations.csv")
    assert set(pd.read_csv(file)["rank"]) == {1, 2, 3, 4, 5}


def test_the_evaluation_notebook_judges_all_encoders_there_are(home):
    (file,) = (home / "embeddings").glob("*-trained/evaluation.csv")
    table = pd.read_csv(file, index_col="encoder")
    encoders = ["guessing", "colour histogram", "untrained", "frozen", "head", "fine-tuned"]
    assert list(table.index) == [*encoders, "logistic regression", "fine-tuned + colour"]
    assert table["class right"].between(0, 1).all()
    assert (table["colour distance"] > 0).all()
    text = text_of(executed(home, "06_evaluation"))
    assert "6 test photos: 0 that the model learnt from, 0 with a copy" in text
    # There is no column of colours here.
    assert "both right" not in table


def test_a_model_is_judged_on_photos_alone_that_it_did_not_learn_from(home, given, tmp_path):
    """As after a new split: two photos that it has learnt from are now to be judged by."""
    home = shutil.copytree(home, tmp_path / "home")
    (file,) = (home / "data" / "catalogs").glob("*/catalog.csv")
    catalog = read_catalog(file)
    # Of two copies with different labels, which comes first would be anybody's guess.
    catalog.loc[catalog["image_id"] == "cup/copy.png", "split"] = "validation"
    new = np.flatnonzero(catalog["split"] == "test")
    catalog.loc[catalog.index[catalog["split"] == "train"][-2:], "split"] = "test"
    save_catalog(catalog, file)
    _, (notebook,) = well(["06"], home, **given)
    assert f"{len(new) + 2} test photos: 2 that the model learnt from" in text_of(notebook)
    (file,) = (home / "embeddings").glob("*-trained/evaluation.csv")
    store = open_store(file.parent)
    honest = rank(store.vectors, catalog, 10, queries=new, gallery_split="train")
    found = pd.read_csv(file, index_col="encoder").loc["fine-tuned", "class right"]
    assert found == pytest.approx(precision_at_k(honest.relevant, 10).mean(), abs=1e-6)


def test_the_duplicates_notebook_finds_planted_copies_and_the_one_of_its_own(home):
    text = text_of(executed(home, "07_near_duplicates"))
    called = r"the package's, .* (\d+) wrong, (\d+\.\d)% of the copies"
    wrong, share = re.search(called, text).groups()
    assert int(wrong) == 0
    assert float(share) >= 40
    mixed, gone = re.search(r"(\d+) copies were mixed in; (\d+) photos could go", text).groups()
    assert 0 < int(gone) <= int(mixed)
    (file,) = (home / "data" / "catalogs").glob("*/near_duplicates.csv")
    could_go = pd.read_csv(file)
    assert could_go.columns.tolist() == ["keep", "drop", "step", "difference", "why"]
    assert could_go[["keep", "drop"]].to_numpy().tolist() == [["cup/copy.png", "plate/02.png"]]


def test_the_page_answers_what_strangers_send_and_hands_out_no_file(home):
    notebook = executed(home, "08_interactive_app")
    text = text_of(notebook)
    assert sum("image/png" in output.get("data", {}) for output in outputs_of(notebook)) == 3
    assert len(re.findall(r"ms\): This photo cannot be used", text)) == 4
    assert re.search(r"a photo \([\d,]+ bytes, \d+ ms\): \d+ x \d+ pixels", text)
    statuses = dict(re.findall(r"(.*): (\d{3}) [A-Z][A-Za-z ]+\n", text))
    assert [what for what in statuses if statuses[what] == "200"] == ["the page", "a thumbnail"]
    assert len(statuses) == 5
    assert re.search(r"check: (\S+ .+|new)", text)


@pytest.mark.soak
def test_photos_without_labels_go_through_all_that_needs_none(given, tmp_path):
    unlabelled = given | {"path": given["path"] / "cup"}
    told, (quickstart, *_) = well(SERIES, tmp_path, **unlabelled)
    left_out = re.findall(r"(\d\d)_\w+ left out: There must be classes to tell apart", told)
    assert left_out == ["02", "03", "06"]
    assert "Precision@5 is" not in text_of(quickstart)
    (file,) = (tmp_path / "embeddings").glob("*-gem/recommendations.csv")
    assert len(pd.read_csv(file)) == 5 * COUNT // 2


@pytest.mark.soak
def test_the_first_notebooks_read_a_single_tiny_photo(tmp_path):
    write_photo(tmp_path / "photos" / "cup" / "a.png", 0, size=28)
    well(["00", "01"], tmp_path, path=tmp_path / "photos", backbone="VGG16Slim")


@pytest.mark.soak
def test_the_page_notebook_takes_a_photo_of_ones_own(home, given):
    well(["08"], home, **given, photo=given["path"] / "cup" / "01.png")


@pytest.mark.soak
def test_an_encoder_leaves_the_notebook_and_stays_the_same(home, given):
    skip_without_engines("09_export")
    _, (notebook,) = well(["09"], home, **given)
    text = text_of(notebook)
    assert re.search(r"32 bits: least cosine 1\.0000\d\d, same top \d+ for 100\.0% of", text)
    # That one is calibrated on 32 photos, more than there are to learn from.
    for format in {*FORMATS} - {"litert-int8"}:
        assert re.search(rf"(?m)^{format}: .*, cosine to Keras at least", text)
    assert text.count("5 of 5 as by recommend") == 2
    assert "6 of 6 photos get the same name" in text


@pytest.mark.soak
def test_search_and_embedding_leave_the_machine(home, given):
    skip_without_engines("10_scaling_out")
    _, (notebook,) = well(["10"], home, **given, largest=20000)
    text = text_of(notebook)
    assert float(re.search(r"(\S+)% of what FAISS finds, in its order", text)[1]) > 99
    assert f"{COUNT - 2} vectors are left" in text
    assert f"{COUNT} vectors; 5 of 5 are those of the exact search" in text
    assert f"Spark embedded {COUNT} of {COUNT} photos." in text
    (sparks,) = (home / "embeddings").glob("*-spark.npy")
    ours = open_store(sparks.with_name(sparks.name.removesuffix("-spark.npy")))
    assert np.load(sparks) == pytest.approx(np.array(ours.vectors), abs=1e-5)


@pytest.mark.soak
def test_what_else_can_be_measured_is(home, given):
    _, (notebook,) = well(["11"], home, **given)
    text = text_of(notebook)
    assert float(re.search(r"largest difference (\S+)", text)[1]) < 1e-9
    assert f"{SPLIT['test']} ask, {SPLIT['train']} answer" in text
    assert re.search(r"at \d of 6 strengths light is told from luck", text)


@pytest.mark.soak
def test_the_branches_that_a_reader_with_a_gpu_takes(given, tmp_path):
    """Half precision while it learns; what is saved computes in full."""
    given = given | {"path": str(given["path"]), "root": str(tmp_path)}
    for path in NOTEBOOKS[1:4]:
        notebook = nbformat.read(path, 4)
        for cell in code_of(notebook):
            cell.source = re.sub(r"(?m)^on_gpu = .*", "on_gpu = True", cell.source)
        nbformat.write(notebook, tmp_path / path.name)
        declared = papermill.inspect_notebook(str(path))
        taken = {name: given[name] for name in given if name in declared}
        runner.execute(tmp_path / path.name, tmp_path / path.name, taken)
    model, _ = load_model(tmp_path / "models" / "model_recommendation.keras")
    assert {layer.dtype_policy.name for layer in inner_backbone(model).layers} == {"float32"}


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("top_n=many", "top_n is a number, not 'many'"),
        ("columns=file", "columns is a number, or columns such as"),
        ("sorce=folder", "no parameter 'sorce' here; there are .*source"),
        ("source", "name=value, not 'source'"),
    ],
)
def test_what_cannot_be_meant_is_refused(setting, told):
    with pytest.raises(SystemExit, match=told):
        runner.parse_parameters([setting], runner.find_notebooks(["01", "05"]))
    with pytest.raises(SystemExit, match="No notebook starts with '99'"):
        runner.find_notebooks(["99"])


def test_a_notebook_with_nothing_to_learn_is_left_out_and_one_that_fails_ends_the_run(
    tmp_path, monkeypatch, capsys
):
    cells = ["class TooFewLabelsError(Exception):\n    pass\n\nraise TooFewLabelsError('one kind')"]
    cells += ["print('well')", "1 / 0", "print('never')"]
    for number, source in enumerate(cells):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        nbformat.write(notebook, tmp_path / f"0{number}_small.ipynb")
    monkeypatch.setattr(runner, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["run.py", "--output", str(tmp_path / "build")])
    with pytest.raises(SystemExit, match=r"failed in cell 1:\n1 / 0\n\nZeroDivisionError: divis"):
        runner.main()
    told = capsys.readouterr().out
    assert "[1/4] 00_small left out: one kind" in told
    assert re.search(r"\[2/4\] 01_small \d+ s", told)
    assert "[4/4]" not in told
