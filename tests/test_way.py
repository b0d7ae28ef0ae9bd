import pytest
from matplotlib.colors import to_hex

from conftest import PROJECT
from lookalike.plots import RIGHT
from lookalike.way import STAGES, show_way


def filled(figure):
    names = (text.get_text()[:2] for text in figure.axes[0].texts if text.get_text())
    boxes = dict(zip(names, figure.axes[0].patches, strict=True))
    return [name for name, box in boxes.items() if to_hex(box.get_facecolor()).upper() == RIGHT]


@pytest.mark.parametrize("stage", STAGES)
def test_the_present_stage_is_the_one_that_is_filled(stage):
    assert filled(show_way(stage)) == [stage]


def test_the_quickstart_goes_the_whole_way():
    assert filled(show_way("00")) == list(STAGES)


def test_every_notebook_is_a_stage():
    assert [path.name[:2] for path in sorted((PROJECT / "notebooks").glob("[0-9]*.ipynb"))] == ["00", *STAGES]


def test_a_figure_tells_what_it_shows_to_those_who_cannot_see_it():
    data, metadata = show_way("05")._repr_mimebundle_(include=None, exclude=None)
    assert data == {}
    told = "Notebook 05: recommendations. The stages from photos to recommendations, and what is made of those"
    assert metadata["image/png"]["alt"].startswith(told)
