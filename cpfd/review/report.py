"""The report of `cpfd review`: its sections, the verdict, and the report as JSON, as Markdown and as a page."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from cpfd.errors import CpfdError
from cpfd.pages.environment import data_uri, templates
from cpfd.pages.formatting import decimal, duration, share, signed, span
from cpfd.pages.markdown import html_prose, markdown_code, markdown_prose, short
from cpfd.pages.names import model_name
from cpfd.paths import CODE, LOCK_FILE, PARAMS_FILE, PIPELINE_FILE
from cpfd.project import lock
from cpfd.project.forecast import forecast
from cpfd.project.graph import families
from cpfd.project.revision import Revision, git, open_revision
from cpfd.reports.metrics import Difference, GapClosed
from cpfd.reports.report import Part
from cpfd.review import code, data, parameters, results

MARKER = "<!-- cpfd review -->"
"""First line of the Markdown report, by which a workflow finds the comment that it is to update."""
MAX_MARKDOWN = 60_000
"""Characters; GitHub takes 65,536 in a comment."""
PENDING = ("will run", "may run")
"""Outcomes of a stage whose results are not those of its inputs."""
MAIN_BRANCHES = ("main", "origin/main", "master", "origin/master")

_HASH = re.compile("^[0-9a-f]{40}$")
_OUTCOMES = {
    "reran": "ran again",
    "from cache": "from the cache",
    "will run": "have yet to run",
    "may run": "may have to run",
    "unchanged": "unchanged",
}
_ROWS = (400, 100, 40, 15, 5, 2)  # rows of a list, tried in turn until the Markdown is short enough


def review(base: Revision, head: Revision) -> dict[str, Any]:
    """Gather all that a reviewer of base -> head needs: what `cpfd review --format json` prints.

    `verdict`: one sentence. `base`, `head`: `name`, `commit` (None for the work tree), `problems` (what the schema has
    against params.yaml), `drift` (how dvc.lock is out of step; None where that is not known) and the same in
    `drift_sentences`. Then the sections,
    `parameters`, `data`, `code`, `stages`, `results`, `plots` and `gate`, as the modules of this package give them; one
    that could not be made is None, and `errors` says why. Nothing is trained and nothing written.
    """
    errors: dict[str, str] = {}
    facts = {
        "base": _side("base", base, errors),
        "head": _side("head", head, errors),
        "parameters": _attempt("parameters", errors, parameters.changed_parameters, base, head),
        "data": _attempt("data", errors, data.changed_data, base, head),
        "code": _attempt("code", errors, code.changed_code, base, head),
        "stages": _attempt("stages", errors, forecast, base, head),
        "results": _attempt("results", errors, results.changed_results, base, head),
        "plots": _attempt("plots", errors, results.changed_plots, base, head),
        "gate": _attempt("gate", errors, results.changed_gate, base, head),
        "errors": errors,
    }
    return {"verdict": verdict(facts), **facts}


def open_sides(base: str | None, head: str | None) -> tuple[Revision, Revision]:
    """Open both revisions: `base`, else where `head` left the main branch, and `head`, else the work tree.

    Raises CpfdError where one does not exist, or where there is no main branch to compare with.
    """
    opened = open_revision(head)
    sides = open_revision(base or _merge_base(head or "HEAD")), opened
    base_side, head_side = (replace(side, name=_HASH.sub(lambda found: found[0][:10], side.name)) for side in sides)
    return base_side, head_side


def verdict(facts: Mapping[str, Any]) -> str:
    """Say in one sentence what matters most: what hinders a judgement, else what changed and what came of it."""
    head = facts["head"]
    if head["problems"]:
        first, *others = head["problems"]
        more = f" (and {_count(len(others), 'more problem')})" if others else ""
        return f"{PARAMS_FILE} is wrong: {first}{more}; nothing else can be judged before it is mended."
    # What stage `code` has not seen yet is judged all the same: a stage whose code differs is out of step by itself.
    hindering = [one for one in head["drift"] or [] if one["stage"] != CODE.name]
    if hindering:
        time = about([stage for stage in facts["stages"] or [] if stage["outcome"] in PENDING])
        return f"{_out_of_step(hindering)}: run `dvc repro`{time} and commit before this can be judged."
    if head["drift"] is None:
        return f"Whether {LOCK_FILE} is in step could not be told: {facts['errors']['head'].rstrip('.')}."
    parts = [_changes(facts), _reruns(facts["stages"] or []), _scores(facts), _gates(facts["gate"])]
    if not any(parts[:2]) and not _differ(facts) and not facts["errors"]:
        return "Nothing changed that the pipeline depends on" + "".join(f"; {part}" for part in parts[2:] if part) + "."
    sentence = "; ".join(part for part in parts if part)
    return f"{sentence[:1].upper()}{sentence[1:]}."


def to_json(facts: Mapping[str, Any]) -> str:
    """The report as JSON."""

    def plain_value(value: Any) -> Any:
        return value.content() if isinstance(value, Part) else str(value)

    return json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False, default=plain_value) + "\n"


def to_markdown(facts: Mapping[str, Any]) -> str:
    """Render the report as GitHub's Markdown, at most MAX_MARKDOWN characters: the longest lists are cut first."""
    template = _template("review.md.jinja", html=False)
    text = ""
    for rows in _ROWS:
        text = template.render(marker=MARKER, review=facts, rows=rows)
        text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
        if len(text) <= MAX_MARKDOWN:
            break
    return text


def to_html(facts: Mapping[str, Any], plots: Mapping[str, Mapping[str, bytes]]) -> str:
    """Render the report as one self-contained page: styles and plots are in it, scripts and network are not needed.

    plots: PNG files of "base" and "head" by name, as `results.read_plots` gives them.
    """
    images = {side: {name: data_uri(image) for name, image in of.items()} for side, of in plots.items()}
    return _template("review.html.jinja", html=True).render(review=facts, images=images)


def _merge_base(tip: str) -> str:
    for branch in MAIN_BRANCHES:
        try:
            git("rev-parse", "--verify", "--quiet", f"{branch}^{{commit}}")
        except CpfdError:
            continue
        try:
            return git("merge-base", tip, branch).strip()
        except CpfdError:
            raise CpfdError(
                f"{tip} and {branch} have no commit in common here: fetch what a shallow clone lacks"
                " (`git fetch --unshallow`), or name BASE"
            ) from None
    raise CpfdError(f"no branch to compare with ({', '.join(MAIN_BRANCHES)}): name BASE, e.g. `cpfd review HEAD~1`")


def _side(key: str, revision: Revision, errors: dict[str, str]) -> dict[str, Any]:
    """Describe one side: whether its params.yaml is one, and how dvc.lock is out of step with the project."""
    try:
        problems = [f"{key}: {message}" for key, message in lock.parameter_problems(revision)]
    except CpfdError as error:
        problems = [str(error)]
    drift = _attempt(key, errors, lock.drift, revision)
    return {
        "name": revision.name,
        "commit": revision.commit,
        "problems": problems,
        "drift": drift and [asdict(one) for one in drift],
        "drift_sentences": lock.sentences(drift or []),
    }


def _attempt(section: str, errors: dict[str, str], build: Callable[..., Any], *revisions: Revision) -> Any:
    """Build a section; what goes wrong is noted in `errors`, because one section must not cost the others."""
    try:
        return build(*revisions)
    except CpfdError as error:
        errors[section] = str(error)
    except Exception as error:  # an old revision may hold anything: what it lacks is a finding, not a crash
        errors[section] = f"could not be read ({type(error).__name__}: {error})"
    return None


def _out_of_step(drift: list[dict[str, Any]]) -> str:
    """Name what dvc.lock does not record as it is now: parameters first, then stages, then files."""
    keys: dict[str, dict[str, None]] = {}  # dictionaries, because they keep the order and drop what comes twice
    for one in drift:
        keys.setdefault(one["kind"], {})[one["key"]] = None
    named = [f"{PARAMS_FILE} ({_few(list(keys.pop('parameter')))})"] if "parameter" in keys else []
    if "missing" in keys:
        named.append(f"{PIPELINE_FILE} (no run of {_few(families(keys.pop('missing')))})")
    named += [_few([key for of in keys.values() for key in of])] if keys else []
    return f"{LOCK_FILE} is out of step with {_and(named)}"


def _changes(facts: Mapping[str, Any]) -> str:
    """Count what changed: "1 parameter and 2 code files changed"; nothing where nothing did."""
    changed = [row for row in facts["parameters"] or [] if row["old"] != row["new"]]
    datasets = [each for each in facts["data"] or [] if each["change"] != "unchanged"]
    code_files = (facts["code"] or {}).get("by_file", [])
    counts = [
        _count(len(changed), "parameter"),
        _count(len(datasets), "data set"),
        _count(len(code_files), "file of code", "files of code"),
    ]
    named = [count for count in counts if count]
    return f"{_and(named)} changed" if named else ""


def _reruns(stages: list[dict[str, Any]]) -> str:
    """Count stages by what became of them, and the time that those to come will take."""
    present = [stage for stage in stages if not stage["removed"]]
    outcomes = Counter(stage["outcome"] for stage in present)
    parts = []
    if outcomes["reran"]:
        parts.append(f"{outcomes['reran']} of {len(present)} stages ran again")
    if outcomes["from cache"]:
        parts.append(f"{outcomes['from cache']} came from the cache")
    waiting = [stage for stage in present if stage["outcome"] in PENDING]
    if waiting:
        parts.append(f"up to {len(waiting)} of {len(present)} stages have yet to run{about(waiting)}")
    return ", ".join(parts)


def about(stages: list[dict[str, Any]]) -> str:
    """The time of stages' earlier runs: " (about 4 min)"; nothing where no time is known."""
    known = [stage["seconds"] for stage in stages if stage["seconds"] is not None]
    if not known:
        return ""
    unknown = len(stages) - len(known)
    return f" (about {duration(sum(known))}" + (f" and {unknown} stages of unknown length)" if unknown else ")")


def alike(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Stages of one family with the same outcome for the same reasons as one entry, its seconds their sum."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for stage in stages:
        groups.setdefault((stage["stage"].partition("@")[0], stage["outcome"], *stage["why"]), []).append(stage)
    return [
        {
            **group[0],
            "stage": ", ".join(families(stage["stage"] for stage in group)),
            "seconds": None if None in (times := [stage["seconds"] for stage in group]) else sum(times),
        }
        for group in groups.values()
    ]


def _scores(facts: Mapping[str, Any]) -> str:
    """Say what became of the shipped method's macro-F1, and whether a difference is shown."""
    if facts["results"] is None:
        return "results could not be compared"
    shipped = facts["results"]["shipped"]
    old, new, difference = shipped["old"], shipped["new"], shipped["difference"]
    if new is None or old is None:
        lacking = [facts[side]["name"] for side, each in (("base", old), ("head", new)) if each is None]
        there = (
            "" if old is None and new is None else f" (macro-F1 {decimal((old or new)['macro_f1'])} on the other side)"
        )
        return f"no results at {' nor at '.join(lacking)}{there}"
    if facts["base"]["drift"]:
        return f"{facts['base']['name']} is out of step itself, so its results are not those of its parameters"
    method = "" if old["method"] == new["method"] else f" ({old['name']}, now {new['name']})"
    if difference is None:
        told = f"{decimal(old['macro_f1'])} → {decimal(new['macro_f1'])} (no paired interval)"
        return f"shipped macro-F1{method} {told}"
    if difference.mean == difference.low == difference.high == 0:
        return f"shipped macro-F1{method} {decimal(new['macro_f1'])} as before"
    paired = facts["results"]["paired"]
    on = f" on the {paired['clips']} clips that both have" if any(paired["left_out"].values()) else ""
    told = (
        f"{decimal(old['macro_f1'])} → {decimal(new['macro_f1'])}"
        f" ({signed(difference.mean)} {span(difference, signed)}, paired{on})"
    )
    return f"shipped macro-F1{method} {told}{'' if shown(difference) else ', not shown to differ'}"


def shown(difference: Difference) -> bool:
    """Whether an interval leaves out zero."""
    return difference.low > 0 or difference.high < 0


def _gates(gate: Mapping[str, Any] | None) -> str:
    """Say how the gate judges both sides."""
    if gate is None:
        return "the gate's verdicts could not be read"
    words = {True: "passes", False: "rejects"}
    old, new = (words[gate[side]["passed"]] if gate[side] else None for side in ("old", "new"))
    if new is None:
        return f"the gate has not judged head{f' and {old} base' if old else ''}"
    if old is None:
        return f"the gate {new} head and has not judged base"
    return f"the gate {new} both" if old == new else f"the gate {old} base and {new} head"


def evidence(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """What results rest on, as rows of `name`, `old`, `new`: shipped student, gap closed, the teacher, data checks."""

    def gap(each: GapClosed) -> str:
        if each.mean is None:
            return "no gap"
        return f"{share(each.mean)} {'(no interval)' if each.low is None else span(each, share)}"

    shipped, teacher, checks = found["shipped"], found["confidence"], found["validation"]
    rows: list[tuple[str, Mapping[str, Any], Callable[[Any], str]]] = [
        ("shipped student", shipped, lambda each: f"{each['name']}, seed {each['seed']}"),
        ("its test macro-F1", shipped, lambda each: decimal(each["student"].macro_f1)),
        ("its calibration error", shipped, lambda each: decimal(each["student"].calibration_error)),
        *((f"gap closed by {model_name(name)}", each, gap) for name, each in found["gap_closed"].items()),
        ("label noise eta", teacher, lambda each: decimal(each["eta"])),
        ("gain of the teacher", teacher, lambda each: signed(each["gain"])),
        ("method that this speaks for", teacher, lambda each: model_name(each["method"])),
        ("data validation", checks, lambda each: "passed" if each["passed"] else "failed"),
        ("clips in quarantine", checks, lambda each: str(each["quarantined"])),
        ("expectations not met", checks, lambda each: str(len(each["unmet"]))),
    ]
    return [
        {"name": name, **{side: "\N{EN DASH}" if each[side] is None else form(each[side]) for side in ("old", "new")}}
        for name, each, form in rows
    ]


def _differ(facts: Mapping[str, Any]) -> bool:
    """Whether results differ, or could not be compared."""
    found = facts["results"]
    return (
        found is None
        or facts["gate"] is None
        or found["shipped"]["old"] != found["shipped"]["new"]
        or facts["gate"]["old"] != facts["gate"]["new"]
    )


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}" if number else ""


def _and(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1])] * (len(parts) > 1) + parts[-1:])


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _template(name: str, *, html: bool) -> Any:
    used = (about, shown, judged, basis, evidence, short, alike, families)
    formats: dict[str, Any] = {each.__name__: each for each in used}
    formats |= {"prose": html_prose} if html else {"code": markdown_code, "prose": markdown_prose}
    return templates("cpfd.review", formats, html=html).get_template(
        name, globals={"outcomes": _OUTCOMES, "pending": PENDING}
    )


def judged(difference: Difference | None) -> str:
    """Say in words what an interval shows."""
    if difference is None:
        return ""
    if difference.low == difference.high == difference.mean == 0:
        return "same"
    return ("better" if difference.low > 0 else "worse") if shown(difference) else "not shown to differ"


def basis(paired: Mapping[str, Any]) -> str:
    """Say on what paired intervals rest, and what they leave out."""
    seeds = f"seed{'s' * (len(paired['seeds']) > 1)} {', '.join(map(str, paired['seeds']))}"
    text = (
        f"Brackets: {share(paired['interval'])} interval of {paired['samples']:,} paired bootstrap resamples of"
        f" {paired['clips']} test clips ({paired['clusters']} creators) and of {seeds}."
    )
    left_out = paired["left_out"]
    if any(left_out.values()):
        text += (
            f" Left out, because only one side has them: {left_out['old']} clips of base, {left_out['new']} of head."
        )
    return text
