"""What people read of a duel: a page of its own, and a table in a terminal."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from cpfd.comparing.disagreements import Duel
from cpfd.datasets.contract import parse_labels
from cpfd.datasets.video import ClipError
from cpfd.features.sheet import SHEET_FRAMES, contact_sheet
from cpfd.pages.environment import data_uri, templates
from cpfd.pages.formatting import SPACE, decimal, share, signed, span
from cpfd.pages.names import accuracy_name
from cpfd.reports.champion import ComparedF1, Sides
from cpfd.reports.duel import Disagreement, DuelReport

TIMES = "\N{MULTIPLICATION SIGN}"
_TOP = 3
"""Classes of each student that a clip's table shows, besides those of the label."""


def render_page(duel: Duel) -> str:
    """Render one self-contained HTML page: styles and pictures are in it, scripts and network are not needed."""
    report = duel.report
    return (
        templates("cpfd.comparing")
        .get_template("compare.html.jinja")
        .render(
            report=report,
            headline=headline(report),
            sentence=difference_sentence(report),
            outcome=outcome(report),
            names=names(report),
            scores=score_rows(report),
            classes_compared=[_score(each.name, each, f"{each.clips} clips") for each in report.per_class or []],
            slices_compared=[_score(each.slice, each, f"{each.clips} clips") for each in report.per_slice or []],
            costs=cost_rows(report),
            frames=SHEET_FRAMES,
            shown=[_show(clip, report.task, duel.videos) for clip in report.disagreements],
        )
    )


def names(report: DuelReport) -> dict[str, str]:
    """What the champion and the challenger are called: as the user did, a full commit hash by its first digits."""
    called = {"champion": report.revisions.champion, "challenger": report.revisions.challenger}
    return {
        side: revision.commit[:7] if revision.commit == revision.name else revision.name
        for side, revision in called.items()
    }


def outcome(report: DuelReport) -> str:
    """How the challenger does by the interval of the difference: better, worse, unclear; or not comparable."""
    f1 = report.macro_f1
    if f1 is None:
        return "not comparable"
    return "better" if f1.low > 0 else "worse" if f1.high < 0 else "unclear"


def headline(report: DuelReport) -> str:
    """Say in one sentence which of the two is better, if that can be said."""
    called, f1 = names(report), report.macro_f1
    if f1 is None:
        reason = (report.note or "").removeprefix("not comparable: ")
        return f"{called['challenger']} and {called['champion']} cannot be compared: {reason}."
    compared = {
        "better": f"{called['challenger']} is better than {called['champion']}",
        "worse": f"{called['challenger']} is worse than {called['champion']}",
        "unclear": f"No clear difference between {called['challenger']} and {called['champion']}",
    }[outcome(report)]
    return (
        f"{compared}: macro-F1 {decimal(f1.challenger)} against {decimal(f1.champion)} on {report.clips}"
        f" test clips, {signed(f1.mean)} {span(f1, signed)}."
    )


def score_rows(report: DuelReport) -> list[list[str]]:
    """Rows of name, champion, challenger, difference, and a remark; none without a comparison."""
    f1 = report.macro_f1
    if f1 is None:
        return []
    rows = [_score("macro-F1", f1, f"not worse in {share(f1.probability)} of the resamples")]
    assert report.accuracy is not None
    assert report.calibration_error is not None
    rows.append(_score(accuracy_name(report.task), report.accuracy))
    rows.append(_score("calibration error", report.calibration_error, "expected, the smaller the better"))
    return rows


def cost_rows(report: DuelReport) -> list[list[str]]:
    """Rows of name, champion, challenger, the challenger as a multiple of the champion, and how it was measured."""
    rows = [
        _cost("size", report.bytes, "{:.1f} MB", "weights, backbones included", unit=1e6),
        _cost("parameters", report.parameters, "{:.2f} million", unit=1e6),
    ]
    latency = report.latency_ms
    if latency is not None:
        remark = f"median of {latency.clips} clips in turns on this machine, from file to logits"
        rows.append(_cost("time per clip", latency, "{:.0f} ms", remark))
    return rows


def result_table(report: DuelReport) -> Table:
    """Tabulate scores and costs for a terminal."""
    called = names(report)
    table = Table(box=SIMPLE_HEAD)
    for heading in ("", called["champion"], called["challenger"], "difference"):
        # Text, because brackets in a plain string would be read as markup.
        table.add_column(Text(heading), justify="right" if heading else "left", overflow="fold")
    for row in [*score_rows(report), *cost_rows(report)]:
        table.add_row(*(Text(cell) for cell in row[:4]))
    return table


def difference_sentence(report: DuelReport) -> str:
    """Say on how many clips the predictions differ, and who is right there; empty without a comparison."""
    differ, called = report.differ, names(report)
    if differ is None:
        return ""
    if not differ.clips:
        return f"They predict the same on all {report.clips} test clips."
    sides = (
        f"{called['champion']} is right on {differ.champion_right}"
        f" and {called['challenger']} is right on {differ.challenger_right}"
    )
    return f"They predict differently on {differ.clips} of {report.clips} test clips; of these {sides}."


def _score(name: str, values: Sides, remark: str = "") -> list[str]:
    change = signed(values.challenger - values.champion)
    if isinstance(values, ComparedF1):
        change += f" {span(values, signed)}"
    return [name, decimal(values.champion), decimal(values.challenger), change, remark]


def _cost(name: str, values: Sides, form: str, remark: str = "", *, unit: float = 1) -> list[str]:
    ratio = f"{TIMES}{SPACE}{values.challenger / values.champion:.2f}"
    return [name, form.format(values.champion / unit), form.format(values.challenger / unit), ratio, remark]


def _show(clip: Disagreement, task: str, videos: Path) -> dict[str, Any]:
    """What the page shows of a clip: the clip, its `labels`, the `bars` of its classes, and a picture or `no_picture`.

    Each of `bars` is a class with its probability for both students, None where a student does not know it.
    """
    labels = parse_labels(clip.label, task)
    opinions = {"champion": clip.champion, "challenger": clip.challenger}
    wanted = set()
    for opinion in opinions.values():
        chances = opinion.probabilities
        # A label may name a class that is not compared: with several labels, a clip is judged by the shared classes.
        wanted |= {*list(chances)[:_TOP], *opinion.predicted, *(name for name in labels if name in chances)}
    bars = [(name, {side: each.probabilities.get(name) for side, each in opinions.items()}) for name in sorted(wanted)]
    bars.sort(key=lambda bar: -max(chance for chance in bar[1].values() if chance is not None))
    shown = {"clip": clip, "opinions": opinions, "labels": labels, "bars": bars, "picture": None, "no_picture": ""}
    if not clip.path:
        return shown | {"no_picture": "no video, text alone"}
    try:
        jpeg = contact_sheet(videos / clip.path)
    except ClipError as error:
        return shown | {"no_picture": f"no frames to show: {error}"}
    return shown | {"picture": data_uri(jpeg, "jpeg")}
