"""The sentence at the top of a review: what hinders a judgement, else what changed and what came of it.

`facts` is what `cpfd.review.report.review` gathers.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from cpfd.pages.formatting import decimal, signed, span
from cpfd.paths import CODE, LOCK_FILE, PARAMS_FILE, PIPELINE_FILE
from cpfd.project.graph import families
from cpfd.review.wording import PENDING, about, shown


def headline(facts: Mapping[str, Any]) -> str:
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
    parts = [_changes(facts), _reruns(facts["stages"] or []), _shipped_score(facts), _gate_verdicts(facts["gate"])]
    if not any(parts[:2]) and not _differ(facts) and not facts["errors"]:
        return "Nothing changed that the pipeline depends on" + "".join(f"; {part}" for part in parts[2:] if part) + "."
    sentence = "; ".join(part for part in parts if part)
    return f"{sentence[:1].upper()}{sentence[1:]}."


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


def _shipped_score(facts: Mapping[str, Any]) -> str:
    """Say what became of the shipped method's mean macro-F1 over seeds, and whether a difference is shown."""
    if facts["results"] is None:
        return "results could not be compared"
    shipped = facts["results"]["shipped"]
    base, head, difference = shipped["old"], shipped["new"], shipped["difference"]
    if head is None or base is None:
        lacking = [facts[side]["name"] for side, each in (("base", base), ("head", head)) if each is None]
        there = base or head
        elsewhere = f" (mean macro-F1 over seeds {decimal(there['macro_f1'])} on the other side)" if there else ""
        return f"no results at {' nor at '.join(lacking)}{elsewhere}"
    if facts["base"]["drift"]:
        return f"{facts['base']['name']} is out of step itself, so its results are not those of its parameters"
    method = "" if base["method"] == head["method"] else f" ({base['name']}, now {head['name']})"
    score = f"mean macro-F1 over seeds of what ships{method}"
    if difference is None:
        told = f"{decimal(base['macro_f1'])} → {decimal(head['macro_f1'])} (no paired interval)"
        return f"{score} {told}"
    if difference.mean == difference.low == difference.high == 0:
        return f"{score} {decimal(head['macro_f1'])} as before"
    paired = facts["results"]["paired"]
    on = f" on the {paired['clips']} clips that both have" if any(paired["left_out"].values()) else ""
    told = (
        f"{decimal(base['macro_f1'])} → {decimal(head['macro_f1'])}"
        f" ({signed(difference.mean)} {span(difference, signed)}, paired{on})"
    )
    return f"{score} {told}{'' if shown(difference) else ', not shown to differ'}"


def _gate_verdicts(gate: Mapping[str, Any] | None) -> str:
    """Say how the gate judges both sides."""
    if gate is None:
        return "the gate's verdicts could not be read"
    words = {True: "passes", False: "rejects"}
    base, head = (words[gate[side]["passed"]] if gate[side] else None for side in ("old", "new"))
    if head is None:
        return f"the gate has not judged head{f' and {base} base' if base else ''}"
    if base is None:
        return f"the gate {head} head and has not judged base"
    return f"the gate {head} both" if base == head else f"the gate {base} base and {head} head"


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
