"""The notebook examples/tour.ipynb runs from its first cell to its last, and shows what its text says."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

TOUR = Path(__file__).parents[2] / "examples/tour.ipynb"


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell, kind="text/plain"):
    """Return what a cell shows of a kind, and what it prints; not what libraries say on stderr."""
    said = [output for output in cell.outputs if output.get("name") != "stderr"]
    outputs = [output.get("data", {}).get(kind) or output.get("text") for output in said]
    return "\n".join(str(output) for output in outputs if output)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """The code cells by what they begin with, as they are after a run of the whole notebook."""
    notebook = nbformat.read(TOUR, as_version=4)
    client = NotebookClient(
        notebook, kernel_name="python3", timeout=900, resources={"metadata": {"path": tmp_path_factory.mktemp("tour")}}
    )
    client.execute(env=os.environ | {"OMP_NUM_THREADS": "1"})
    return code_cells(notebook)


def cell_with(cells, text):
    (cell,) = [cell for cell in cells if text in cell.source]
    return cell


def test_the_search_shows_its_progress_in_one_output(cells):
    cell = cell_with(cells, "result = tune(")
    assert len([output for output in cell.outputs if output.get("name") != "stderr"]) == 1
    assert shown(cell).startswith("trials 8/8 done, 0 running | best recall@20 0.")


def test_the_winner_beats_the_baselines(cells):
    rows = re.findall(r"^(\S.*?) +([\d.]+) +[\d.]+ +[\d.]+$", shown(cell_with(cells, "figures[")), re.MULTILINE)
    winner, *baselines = [float(recall) for _, recall in rows]
    assert rows[0][0] == "winner"
    assert winner > max(baselines)


def test_plots_are_shown(cells):
    for text in ("px.line(", "plot_param_importances("):
        assert "data" in shown(cell_with(cells, text), "application/vnd.plotly.v1+json")


def test_the_server_answers_what_the_model_does(cells):
    clicked = shown(cell_with(cells, "model.step(")).splitlines()
    (answer,) = [output.data["text/plain"] for output in cell_with(cells, "/recommend").outputs if "data" in output]
    answer = ast.literal_eval(answer)
    assert ", ".join(answer["items"]) == clicked[-1].partition(": ")[2]


def test_outputs_are_kept_small_and_free_of_where_they_were_made():
    text = TOUR.read_text(encoding="utf-8")
    assert len(text) < 500_000
    assert not any(place in text for place in (str(Path.home()), str(TOUR.parents[1]), "/tmp/"))
    for cell in code_cells(nbformat.reads(text, as_version=4)):
        for output in cell.outputs:
            data = output.get("data", {})
            assert ("image/png" in data) == ("application/vnd.plotly.v1+json" in data)
