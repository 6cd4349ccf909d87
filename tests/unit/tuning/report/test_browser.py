"""The page in a real browser: drawn, readable on a phone and in the dark, usable by keyboard, and without a network."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tuning.confirm import Confirmation
from tuning.report import report_on

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("chromium is not installed", allow_module_level=True)

ARGUMENTS = [
    "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
]  # fmt: skip
EVIL = "<img src=x onerror=alert(1)>"
WIDE, PHONE = (1280, 900), (375, 800)

# The least contrast of a text with what is behind it (WCAG 2.2), and the text; bars carry their own, see the tests.
CONTRAST = """() => {
  const channels = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
    return { rgb: [r, g, b], a };
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const { rgb, a } = channels(getComputedStyle(at).backgroundColor);
      if (a === 1) return rgb;
    }
    return [255, 255, 255];
  };
  let least = [99, ""];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    if (element.closest(".bartext, .modebar")) continue;
    const style = getComputedStyle(element);
    const text = channels(element instanceof SVGElement ? style.fill : style.color).rgb;
    const [high, low] = [luminance(text), luminance(behind(element))].sort((a, b) => b - a);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < least[0]) least = [contrast, walker.currentNode.data];
  }
  return least;
}"""


@dataclass
class Seen:
    """A page, what it said on its console, and what it asked for."""

    page: Any
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def report(tmp_path_factory, made, make_run, make_figures, many) -> Path:
    """Trials of every state, several objectives, a confirmed winner, and names that mean harm."""
    trials = [
        *many(30),
        made([0.4, 0.3, 0.3, 0.3], "stopped early", begin_s=400.0, costs={"parameters": 10.0}),
        made([0.2], "interrupted", begin_s=400.0, error="the search ended", costs={"parameters": 20.0}),
        made([0.3], "diverged", begin_s=420.0, error=f"loss became NaN {EVIL}", costs={"parameters": 30.0}),
        made([], "failed", error=EVIL),
    ]
    confirmed = [Confirmation(9, {"recall@20": [0.7, 0.72]}), Confirmation(27, {"recall@20": [0.71, 0.7]})]
    path = tmp_path_factory.mktemp("report") / "run <b>"
    make_run(path, trials, objectives=("parameters",), confirmed=confirmed, figures=make_figures(9))
    (path / "fingerprint.json").write_text(json.dumps({"code": EVIL}))
    return report_on(path)


@pytest.fixture(scope="module")
def visit(report) -> Iterator[Callable[..., Seen]]:
    """Open the report and wait for its plots."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)

        def open_report(size: tuple[int, int], scheme: str) -> Seen:
            context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
            context.grant_permissions(["clipboard-read", "clipboard-write"])
            context.set_default_timeout(120_000)
            seen = Seen(context.new_page())
            seen.page.on("console", lambda message: seen.console.append(message.text))
            seen.page.on("pageerror", lambda error: seen.console.append(str(error)))
            seen.page.on("request", lambda request: seen.requests.append(request.url))
            seen.page.goto(report.as_uri())
            for name in seen.page.evaluate("[...document.querySelectorAll('.plot')].map((plot) => plot.id)"):
                seen.page.wait_for_selector(f"#{name} .main-svg", state="attached")
            return seen

        yield open_report
        browser.close()


@pytest.fixture(scope="module")
def wide(visit) -> Seen:
    return visit(WIDE, "light")


@pytest.fixture(scope="module")
def phone(visit) -> Seen:
    return visit(PHONE, "dark")


def test_nothing_goes_wrong_and_nothing_is_fetched(wide, phone, report):
    for seen in (wide, phone):
        assert seen.console == []
        assert {url for url in seen.requests if not url.startswith(("data:", "blob:"))} == {report.as_uri()}
    assert wide.page.evaluate("document.images.length") == 0


def test_every_plot_is_drawn(wide):
    counts = wide.page.evaluate(
        "[...document.querySelectorAll('.plot')].map((plot) => [plot.id, plot.querySelectorAll('.trace').length])"
    )
    assert len(counts) == 10
    assert [name for name, count in counts if count == 0] == []


def test_the_page_never_scrolls_sideways(wide, phone):
    for seen, (width, _) in ((wide, WIDE), (phone, PHONE)):
        seen.page.evaluate("document.querySelectorAll('details').forEach((element) => { element.open = true; })")
        assert seen.page.evaluate("document.documentElement.scrollWidth") == width


def test_text_has_contrast_in_light_and_dark_and_follows_a_change(wide):
    for scheme in ("light", "dark"):
        wide.page.emulate_media(color_scheme=scheme)
        contrast, text = settled_contrast(wide.page)
        assert contrast >= 4.5, f"{scheme}: {text!r}"
    wide.page.emulate_media(color_scheme="light")


def settled_contrast(page: Any) -> tuple[float, str]:
    """Return the least contrast once the plots have been drawn again, or after half a minute."""
    for _ in range(120):
        contrast, text = page.evaluate(CONTRAST)
        if contrast >= 4.5:
            break
        time.sleep(0.25)
    return contrast, text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_on_bars_has_contrast(wide, scheme):
    wide.page.emulate_media(color_scheme=scheme)
    pairs = [
        ("--on-bar", f"--{state}") for state in ("finished", "early", "asha", "diverged", "failed", "open", "best")
    ]
    for text, bar in [*pairs, ("--on-best", "--best"), ("--text", "--faint")]:
        probe = f"<p id=probe style='color:var({text});background:var({bar})'>x</p>"
        wide.page.evaluate("(probe) => document.body.insertAdjacentHTML('beforeend', probe)", probe)
        contrast, _ = wide.page.evaluate(
            CONTRAST.replace("document.body, Node", "document.querySelector('#probe'), Node")
        )
        wide.page.evaluate("document.getElementById('probe').remove()")
        assert contrast >= 4.5, f"{text} on {bar}"


def test_links_lead_to_their_sections(wide):
    targets = wide.page.evaluate("[...document.querySelectorAll('a')].map((link) => link.getAttribute('href'))")
    assert len(targets) == 10
    assert wide.page.evaluate("(names) => names.filter((name) => !document.querySelector(name))", targets) == []
    wide.page.click("nav a[href='#budget-section']")
    assert wide.page.evaluate("document.querySelector('#budget-section').getBoundingClientRect().top") < WIDE[1]


def test_headings_are_in_order_and_plots_have_words(wide):
    levels = wide.page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((heading) => +heading.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    words = wide.page.evaluate("[...document.querySelectorAll('.plot')].map((plot) => plot.ariaLabel.length)")
    assert min(words) > 30
    assert wide.page.evaluate("document.documentElement.lang") == "en"


def test_the_keyboard_reaches_the_content(phone):
    phone.page.keyboard.press("Tab")
    assert phone.page.evaluate("document.activeElement.className") == "skip"
    phone.page.keyboard.press("Enter")
    assert phone.page.evaluate("document.activeElement.id") == "main"


def test_a_button_copies_the_settings(wide):
    button = wide.page.locator("button[data-copies='code-fixed']")
    button.click()
    button.get_by_text("Copied").wait_for()
    copied = wide.page.evaluate("navigator.clipboard.readText()")
    assert copied == wide.page.evaluate("document.getElementById('code-fixed').textContent")
    assert copied.startswith("[fixed]\n")
