"""The report of `cpfd review` as facts: two revisions side by side, a section a module."""

import re
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from cpfd.errors import CpfdError
from cpfd.project import lock
from cpfd.project.forecast import forecast
from cpfd.project.revision import Revision, git, open_revision
from cpfd.review import code, data, parameters, results
from cpfd.review.headline import headline

MAIN_BRANCHES = ("main", "origin/main", "master", "origin/master")

_HASH = re.compile("^[0-9a-f]{40}$")


def review(base: Revision, head: Revision) -> dict[str, Any]:
    """Gather all that a reviewer of base -> head needs: what `cpfd review --format json` prints.

    `verdict`: the headline. `base`, `head`: `name`, `commit` (None for the work tree), `problems` (what the schema has
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
    return {"verdict": headline(facts), **facts}


def open_sides(base: str | None, head: str | None) -> tuple[Revision, Revision]:
    """Open both revisions: `base`, else where `head` left the main branch, and `head`, else the work tree.

    Raises CpfdError where one does not exist, or where there is no main branch to compare with.
    """
    opened = open_revision(head)
    sides = open_revision(base or _merge_base(head or "HEAD")), opened
    base_side, head_side = (replace(side, name=_HASH.sub(lambda found: found[0][:10], side.name)) for side in sides)
    return base_side, head_side


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
