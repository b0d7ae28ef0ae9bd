import pytest
from test_layouts import contents, write_zip

from lookalike.sources.load import find_photos
from lookalike.workspace import Workspace, project_root


@pytest.fixture
def workspace(tmp_path):
    root = tmp_path / "home"
    (root / "data").mkdir(parents=True)
    return Workspace(root)


def test_a_folder_is_used_where_it_lies(tmp_path, workspace, monkeypatch):
    photos = tmp_path / "photos"
    photos.mkdir()
    assert find_photos("folder", photos, workspace=workspace).root == photos
    monkeypatch.chdir(tmp_path)
    assert find_photos("folder", "photos", workspace=workspace).root == photos
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_photos("folder", "~/photos", workspace=workspace).root == photos
    assert contents(workspace.root) == {}


def test_a_zip_is_unpacked_below_data(tmp_path, workspace):
    file = write_zip(tmp_path / "photos.zip", {"1.png": b"one"})
    folder = find_photos("zip", file, workspace=workspace).root
    assert folder.parent == workspace.data
    assert contents(folder) == {"1.png": b"one"}


def test_the_sample_needs_no_path(workspace):
    folder = find_photos("sample", workspace=workspace).root
    assert folder == project_root() / "data" / "sample"
    assert (folder / "catalog.csv").is_file()


def test_without_a_workspace_the_zip_lands_in_ones_home(tmp_path, workspace, monkeypatch):
    monkeypatch.setenv("LOOKALIKE_HOME", str(workspace.root))
    file = write_zip(tmp_path / "photos.zip", {"1.png": b"one"})
    assert find_photos("zip", file).root.parent == workspace.data


def test_an_unknown_source_is_refused_with_the_choices(workspace):
    with pytest.raises(ValueError, match=r"'ftp'.*sample, folder, zip"):
        find_photos("ftp", "somewhere", workspace=workspace)


@pytest.mark.parametrize("source", ["folder", "zip"])
def test_a_source_without_a_path_is_refused(workspace, source):
    with pytest.raises(ValueError, match=rf"'{source}' needs a path"):
        find_photos(source, workspace=workspace)


@pytest.mark.parametrize("source", ["folder", "zip"])
def test_a_path_where_nothing_is_names_it(tmp_path, workspace, source):
    with pytest.raises(FileNotFoundError, match=r"No .* at .*nowhere"):
        find_photos(source, tmp_path / "nowhere", workspace=workspace)


def test_a_zip_given_as_a_folder_is_pointed_to_its_source(tmp_path, workspace):
    file = write_zip(tmp_path / "photos.zip", {"1.png": b"one"})
    with pytest.raises((FileNotFoundError, ValueError), match="source='zip'"):
        find_photos("folder", file, workspace=workspace)


def test_a_folder_given_as_a_zip_is_refused(tmp_path, workspace):
    with pytest.raises(ValueError, match="No zip file"):
        find_photos("zip", tmp_path, workspace=workspace)


def test_the_sample_takes_no_path(tmp_path):
    with pytest.raises(ValueError, match="takes no path"):
        find_photos("sample", tmp_path)
