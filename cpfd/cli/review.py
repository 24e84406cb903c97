"""Commands for a change: `review` says what it does, `check` whether it is in step with dvc.lock."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def review(
    base: Annotated[
        str | None, typer.Argument(metavar="BASE", help="Revision before the change. None: where HEAD left main.")
    ] = None,
    head: Annotated[
        str | None, typer.Argument(metavar="HEAD", help="Revision with the change. None: the work tree.")
    ] = None,
    form: Annotated[
        Literal["md", "json", "html"], typer.Option("--format", help="Markdown, JSON, or a page with the plots.")
    ] = "md",
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report there. None: print it.")] = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the plots of both sides to DIR/base and DIR/head.")
    ] = None,
) -> None:
    """Report what a change does: parameters, data, code, stages, results and gate, before and after.

    Reads git and DVC's cache alone: trains nothing and changes nothing. What is missing on a side is said.

    Example: cpfd review

    Example: cpfd review main my-branch --format html --output review.html
    """
    from cpfd.files import written_aside
    from cpfd.review import rendering, report
    from cpfd.review.results import read_plots

    sides = dict(zip(("base", "head"), report.open_sides(base, head), strict=True))
    facts = report.review(**sides)
    images = {side: read_plots(revision) for side, revision in sides.items()} if plots or form == "html" else {}
    if form == "json":
        text = rendering.to_json(facts)
    else:
        text = rendering.to_markdown(facts) if form == "md" else rendering.to_html(facts, images)
    if output is None:
        typer.echo(text, nl=False)
    else:
        with written_aside(output) as aside:
            aside.write_text(text, encoding="utf-8")
    for side, of in images.items() if plots else ():
        for name, image in of.items():
            with written_aside(Path(f"{plots}/{side}/{name}.png")) as aside:
                aside.write_bytes(image)


def check(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: a list of errors and one of warnings.")] = False,
) -> None:
    """Check that dvc.lock is in step with dvc.yaml, params.yaml and the reports; the exit code is 1 where it is not.

    Code or data that changed since the last run is a warning. Runs nothing.

    Example: cpfd check && git commit
    """
    import json

    from cpfd.project.lock import check as check_lock
    from cpfd.project.revision import open_revision

    errors, warnings = check_lock(open_revision(None))
    if as_json:
        typer.echo(json.dumps({"errors": errors, "warnings": warnings}, indent=2, ensure_ascii=False))
    else:
        found = [*(f"error: {each}" for each in errors), *(f"warning: {each}" for each in warnings)]
        typer.echo("\n".join(found) or "dvc.lock is in step with dvc.yaml, params.yaml and the reports")
    if errors:
        raise typer.Exit(1)
