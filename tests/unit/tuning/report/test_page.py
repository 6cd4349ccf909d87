"""The page as text: complete, escaped, and there whatever became of the search."""

from __future__ import annotations

import json
import re

import pytest

from tuning.report import page, report_on
from tuning.report.curves_plot import MOST_CURVES, chosen_curves, draw_curves
from tuning.report.findings import read_findings
from tuning.report.html import embed_json, table, tag

EVIL = "</script><img src=x onerror=alert(1)>&\"'"


def plots_of(text):
    return json.loads(re.search(r'id="figures">(.*?)</script>', text)[1])


def words_of(text):
    """Return the page without scripts, styles and tags, to look for words in."""
    return re.sub(r"<[^>]*>", "", re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.DOTALL))


def test_a_page_has_every_section(tmp_path, make_run, many, make_figures):
    path = make_run(tmp_path / "run", many(30), objectives=("parameters",), figures=make_figures(9))
    text = report_on(path).read_text()
    assert "<h1>recall@20 0.6100 on the test log, 1.22 times the first-order Markov baseline</h1>" in text
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", text) == [
        "Result", "To keep in mind", "Learning curves", "Hyperparameters", "Trade-offs", "Settings to copy", "Trials",
        "Budget", "This search",
    ]  # fmt: skip
    names = [plot["name"] for plot in plots_of(text)]
    assert names == [
        "comparison", "curves", "importance", "parallel", *(f"slice-{number}" for number in range(4)), "front-0",
        "timeline",
    ]  # fmt: skip
    assert all(f'id="{name}"' in text for name in names)


def test_whatever_is_written_into_it_is_escaped(tmp_path, made, make_run, make_figures):
    trials = [made([0.5, 0.6], node=EVIL), made([], "failed", error=EVIL)]
    path = make_run(tmp_path / "<b>run", trials, figures=make_figures(0, {"recall@20": 0.6, EVIL: 0.5}))
    (path / "fingerprint.json").write_text(json.dumps({EVIL: EVIL}))
    text = report_on(path).read_text()
    assert "<img" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert "<b>run" not in text
    assert "&lt;/script&gt;&lt;img src=x" in text


def test_pieces_escape_and_json_cannot_end_its_element():
    assert tag("p", EVIL, title='"') == (
        '<p title="&quot;">&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&amp;&quot;&#x27;</p>'
    )
    assert "<td>&lt;b&gt;</td>" in table(["a"], [["<b>"]], "c")
    assert "<" not in embed_json([EVIL])
    assert json.loads(embed_json([EVIL])) == [EVIL]


@pytest.mark.parametrize("trials", [0, 1, 2])
def test_searches_of_which_nothing_came(tmp_path, made, make_run, trials):
    path = make_run(tmp_path / "run", [made([], "failed", error="no memory")] * trials, ended=None)
    text = report_on(path).read_text()
    assert "<h1>No trial has a recall@20</h1>" in text
    assert plots_of(text) == []


def test_one_trial(tmp_path, made, make_run):
    text = report_on(make_run(tmp_path / "run", [made([0.5, 0.6])])).read_text()
    assert [plot["name"] for plot in plots_of(text)] == ["curves", "timeline"]
    assert "recall@20 0.6000 on the validation log" in text


def test_without_plotly_tables_and_texts_remain(tmp_path, make_run, many, monkeypatch):
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    text = report_on(make_run(tmp_path / "run", many(30))).read_text()
    assert plots_of(text) == []
    assert 'class="plot"' not in text
    assert "Plots need plotly" in text
    assert "Trials by how they ended" in words_of(text)
    assert len(text) < 200_000


def test_a_thousand_trials(tmp_path, make_run, many):
    """The best are drawn, and as many others; the file stays small beside plotly.js."""
    findings = read_findings(make_run(tmp_path / "run", many(1000)))
    drawn = chosen_curves(findings)
    assert drawn[: MOST_CURVES // 2] == findings.result.leaderboard()[: MOST_CURVES // 2]
    assert len({trial.number for trial in drawn}) == MOST_CURVES
    assert len(page.render_page(findings)) < 8_000_000


def test_the_curves_have_rungs_and_ends(tmp_path, made, make_run):
    trials = [
        made([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        made([0.1, 0.15], "stopped by ASHA"),
        made([0.2, 0.1, 0.1], "stopped early"),
    ]
    plot = draw_curves(read_findings(make_run(tmp_path / "run", trials)))
    assert [shape["x0"] for shape in plot.layout["shapes"]] == [2]
    ends = {trace["name"]: (trace["x"], trace["y"]) for trace in plot.data if trace["mode"] == "markers"}
    assert ends == {"stopped by ASHA (1)": ([2], [0.15]), "stopped early (1)": ([3], [0.1])}
    winner = plot.data[-1]
    assert winner["name"] == "the winner, trial 0"
    assert winner["marker"]["symbol"][-1] == "star"


def test_it_is_written_elsewhere(tmp_path, made, make_run):
    path = make_run(tmp_path / "run", [made([0.5])])
    assert report_on(path, tmp_path / "other.html") == tmp_path / "other.html"
    assert not (path / "report.html").exists()
