"""Runs examples/tour.ipynb and writes it back with its outputs: `python docs/render_tour.py`.

Notebooks on a git host show no interactive plots, so each gets a picture beside it, taken by Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import nbformat
import plotly.offline
from nbclient import NotebookClient
from playwright.sync_api import Page, sync_playwright

TOUR = Path(__file__).parents[1] / "examples/tour.ipynb"
PLOT, PICTURE = "application/vnd.plotly.v1+json", "image/png"
SIZE = {"width": 800, "height": 400}
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]  # it opens one page of our own


def main() -> None:
    """Write the notebook."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="Its executable.")
    chromium = parser.parse_args().chromium
    notebook = nbformat.read(TOUR, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        client = NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": folder}}, timeout=900)
        client.execute(env=environment)
        text = nbformat.writes(notebook).replace(str(Path(folder).resolve()), "~/shop")
    notebook = nbformat.reads(text, as_version=4)
    with sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS).new_page()
        page.set_content(f"<script>{plotly.offline.get_plotlyjs()}</script><div id='plot'></div>")
        for cell in notebook.cells:
            tidy(cell, page)
    nbformat.write(notebook, TOUR)


def tidy(cell: nbformat.NotebookNode, page: Page) -> None:
    """Take out what differs from run to run and says nothing, and give plots a picture."""
    cell.metadata.clear()
    outputs = cell.get("outputs", [])
    cell["outputs"] = [output for output in outputs if output.get("name") != "stderr"]
    if cell.cell_type != "code":
        del cell["outputs"]
    for output in outputs:
        if PLOT in output.get("data", {}):
            output["data"][PICTURE] = picture(output["data"][PLOT], page)


def picture(plot: dict, page: Page) -> str:
    """Return a plot as PNG, in base64."""
    figure = {"data": plot["data"], "layout": {**plot["layout"], **SIZE}}
    script = f"Plotly.newPlot('plot', {json.dumps(figure)}).then(plot => Plotly.toImage(plot, {{format: 'png'}}))"
    address: str = page.evaluate(script)
    return address.partition(",")[2]


if __name__ == "__main__":
    main()
