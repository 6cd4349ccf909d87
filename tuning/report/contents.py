"""What the sections of the page share: what was found, and the plots that they put into it."""

from __future__ import annotations

from dataclasses import dataclass, field

from tuning.report.account import Account, make_account
from tuning.report.findings import Findings
from tuning.report.html import Piece, join, tag
from tuning.report.importance import Importance, find_importances
from tuning.report.influence_plot import Parameter, searched_parameters
from tuning.report.plot import Plot


@dataclass(frozen=True)
class Contents:
    """What was found, and the plots so far.

    Parameters
    ----------
    findings : Findings
    account : Account
    importances : list of Importance
    parameters : list of Parameter
    plots : list of Plot
        Those of the sections made so far; none is drawn where `with_plots` is false.
    with_plots : bool
    """

    findings: Findings
    account: Account
    importances: list[Importance]
    parameters: list[Parameter]
    plots: list[Plot] = field(default_factory=list)
    with_plots: bool = True

    def figure(self, plot: Plot | None, *texts: object) -> Piece:
        """Return a plot with its texts; only these when there is no plot."""
        if plot is None or not self.with_plots:
            return join(texts)
        self.plots.append(plot)
        size = f"height:{plot.height}px" + (f";min-width:{plot.least_width}px" if plot.least_width else "")
        drawing = tag("div", id=plot.name, class_="plot", role="img", aria_label=plot.summary, style=size)
        frame = tag("div", drawing, class_="scroll", **({"tabindex": "0"} if plot.least_width else {}))
        return tag("figure", frame, tag("figcaption", *texts) if texts else "")


def make_contents(findings: Findings, with_plots: bool) -> Contents:
    """Return what the sections share."""
    importances = find_importances(findings.result.spec.space, findings.measured)
    parameters = searched_parameters(findings, importances)
    return Contents(findings, make_account(findings), importances, parameters, with_plots=with_plots)
