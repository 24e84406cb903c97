"""Commands of the registry: `promote`, `rollback`, `models`, and `compare` of two students."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cpfd.promotion import Bump, Stage

if TYPE_CHECKING:
    from cpfd.promotion.promote import Outcome


def promote(
    rev: Annotated[str, typer.Argument(help="Git revision or experiment whose student is promoted.")] = "HEAD",
    to: Annotated[Stage, typer.Option(help="The stage that it is assigned to.")] = "production",
    reason: Annotated[str | None, typer.Option(help="Why, for those who read the tag.")] = None,
    bump: Annotated[Bump, typer.Option(help="The part of the version that rises.")] = "minor",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and change nothing.")] = False,
) -> None:
    """Register a revision's student as a version and assign it to a stage: tags, pushed to git's remote.

    Refused, with nothing changed, where the gate has not passed, the work tree is dirty, or the model is not in the
    DVC remote as dvc.lock records it.

    Example: cpfd promote --reason "better on short clips"

    Example: cpfd promote v2-candidate --to staging
    """
    from cpfd.promotion.promote import promote

    outcome = promote(rev, to, reason=reason, bump=bump, dry_run=dry_run)
    if dry_run:
        typer.echo(f"{outcome.version} would be {outcome.place}; nothing is changed.")
    else:
        _tell(outcome)


def rollback(
    stage: Annotated[Stage, typer.Option(help="The stage that goes back.")] = "production",
    version: Annotated[
        str | None, typer.Option(help="A version that has been in the stage. None: the one before the present.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why, for those who read the tag.")] = None,
) -> None:
    """Assign a stage to the version that held it before.

    Example: cpfd rollback --reason "complaints about music clips"
    """
    from cpfd.promotion.promote import rollback

    _tell(rollback(stage, version=version, reason=reason))


def models(as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False) -> None:
    """List the registered versions of the student that this clone knows: stages, metrics, who, when and why.

    `git fetch --tags` brings what others have registered.

    Example: cpfd models --json
    """
    import json

    from cpfd.promotion.events import list_versions

    versions = list_versions()
    if as_json:
        typer.echo(json.dumps(versions, indent=2, ensure_ascii=False))
        return
    if not versions:
        typer.echo("No version is registered yet; `cpfd promote` registers the first.")
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD)
    for column in ("version", "stage", "macro-F1", "method", "registered", "by", "reason"):
        table.add_column(column, no_wrap=column not in ("by", "reason"))
    for each in versions:
        f1 = each["metrics"].get("macro_f1")
        table.add_row(
            each["version"],
            "\n".join(each["stages"]),
            "-" if f1 is None else f"{f1:.3f}",
            each["method"],
            each["when"][:10],
            Text(each["who"].split(" <")[0]),
            Text(each["reason"] or ""),
        )
    Console().print(table)


def compare(
    a: Annotated[
        str, typer.Argument(metavar="A", help="Version (v1.0.0), branch, tag, commit or DVC experiment: the champion.")
    ],
    b: Annotated[
        str | None, typer.Argument(metavar="B", help="The same of the challenger. None: the work tree's last run.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page to write. None: compare.html, and none for --json.")
    ] = None,
    clips: Annotated[int, typer.Option(min=0, help="Most clips to show on which the two disagree.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with every number and these clips.")] = False,
) -> None:
    """Compare the students of two revisions on the test clips of B, and show where they disagree.

    Both are scored from files, as in production. Clips that A has learnt from are left out. Models and clips come from
    DVC's cache, else from its remote.

    Example: cpfd compare v1.0.0

    Example: cpfd compare main my-branch --output compare.html --clips 50
    """
    import json
    from tempfile import TemporaryDirectory

    from cpfd.files import written_aside
    from cpfd.params.load import load_params
    from cpfd.project.revision import VERSION, open_revision, open_version

    champion, challenger = (
        open_version(name) if name and VERSION.fullmatch(name) else open_revision(name) for name in (a, b)
    )

    from rich.console import Console

    from cpfd.comparing import page as duel_page
    from cpfd.comparing.disagreements import hold_duel

    page = output if as_json else output or Path("compare.html")
    with TemporaryDirectory() as scratch:
        duel = hold_duel(champion, challenger, load_params(), clips, Path(scratch))
        if page is not None:
            with written_aside(page) as aside:
                aside.write_text(duel_page.render_page(duel), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(duel.report.content(), indent=2, ensure_ascii=False, allow_nan=False))
        return
    console = Console()
    console.print(duel_page.result_table(duel.report))
    console.print(duel_page.headline(duel.report), duel_page.difference_sentence(duel.report), markup=False)
    console.print(f"The clips on which they disagree most: {page}", markup=False)


def _tell(outcome: "Outcome") -> None:
    typer.echo(f"{outcome.version} is now {outcome.place}.")
    where = f"pushed to {outcome.pushed_to}" if outcome.pushed_to else "in this clone alone: git has no remote"
    typer.echo(f"Tags {', '.join(outcome.tags)} ({where}).")
    if outcome.stage == "production":
        typer.echo(f"The next student is held against it: set champion.version to {outcome.version} in params.yaml.")
