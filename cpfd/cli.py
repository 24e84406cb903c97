"""The command line: `cpfd --help`. Every import that is not needed to show help happens inside a command."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from cpfd.promotion.promote import Outcome

app = typer.Typer(
    name="cpfd",
    help="Distil privileged features into a short-video classifier that needs clips and text alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def check_project(context: typer.Context) -> None:
    """Refuse to run any command in a project whose params.yaml is wrong, but for the one that reports on it."""
    from cpfd.params.load import load_params
    from cpfd.paths import PARAMS_FILE

    if PARAMS_FILE.exists() and context.invoked_subcommand != "review":
        load_params()


@app.command()
def params() -> None:
    """Print the reference of params.yaml: every key, what is allowed, what it means."""
    from cpfd.params.reference import reference

    typer.echo(reference())


@app.command()
def predict(
    videos: Annotated[
        list[Path] | None, typer.Argument(metavar="VIDEO...", help="Video or image files; none for text alone.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="The clip's text; once for each VIDEO in the same order, or once for a text alone."),
    ] = None,
    model: Annotated[Path, typer.Option(help="Folder of an exported student.")] = Path("models/student"),
    top: Annotated[int, typer.Option(min=1, help="Classes to show of each clip in the table.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with every class's probability.")] = False,
) -> None:
    """Classify videos with an exported student; it takes neither a data set nor DVC.

    A file that cannot be classified is reported and does not stop the rest; the exit code is then 1.

    Example: cpfd predict clip.mp4 --text "five minute pasta"

    Example: cpfd predict *.mp4 --json > predictions.json
    """
    import json
    from dataclasses import asdict

    files: list[Path | None] = list(videos or [])
    texts = text or [""] * len(files)
    if not files and not text:
        raise typer.BadParameter("name at least one VIDEO, or give --text")
    if not files:
        files = [None] * len(texts)
    if len(texts) != len(files):
        raise typer.BadParameter(f"{len(texts)} --text for {len(files)} videos; give one for each, or none")

    from transformers.utils import logging

    from cpfd.student.student import Student

    logging.disable_progress_bar()
    predictions = list(Student.load(model).predict(files, texts))
    if as_json:
        typer.echo(json.dumps([asdict(prediction) for prediction in predictions], indent=2, ensure_ascii=False))
    else:
        from rich.console import Console
        from rich.table import Column, Table
        from rich.text import Text

        table = Table(Column("clip", overflow="fold"), "class", "probability", box=None)
        for clip in predictions:
            # Text, because brackets in a plain string would be read as markup.
            name = Text(clip.video or clip.text)
            if clip.error is not None:
                table.add_row(name, Text(f"error: {clip.error}", "red"), "")
            for rank, (label, probability) in enumerate(list(clip.probabilities.items())[:top]):
                table.add_row("" if rank else name, Text(label), f"{probability:.3f}")
        Console().print(table)
    if any(clip.error is not None for clip in predictions):
        raise typer.Exit(1)


Source = Annotated[
    Path, typer.Argument(metavar="FOLDER|MANIFEST", help="Folder of clips, or a Parquet or CSV table of them.")
]
Output = Annotated[Path, typer.Option(metavar="DIR", help="Folder to write, whole or not at all.")]
Model = Annotated[
    str, typer.Option(help="production, staging, a version (v1.0.0), or the folder of an exported student.")
]
Videos = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder that a manifest's paths are relative to. None: `videos` beside it, else its own.",
    ),
]
ShardClips = Annotated[int, typer.Option(min=1, help="Clips in a shard, which a killed run resumes at.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Clips that are classified side by side. None: one per CPU.")]
MaxQuarantineShare = Annotated[
    float, typer.Option(min=0, max=1, help="Share of clips that may fail before the run does.")
]
ReplaceOutput = Annotated[bool, typer.Option("--force", help="Replace an earlier result in DIR.")]


@app.command()
def score(
    source: Source,
    output: Output,
    model: Model = "production",
    videos: Videos = None,
    shard_clips: ShardClips = 256,
    threads: Threads = None,
    max_quarantine_share: MaxQuarantineShare = 0.05,
    force: ReplaceOutput = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Classify many clips: predictions.parquet, quarantine.parquet and summary.json in one folder.

    A clip that cannot be classified goes to quarantine with its reason. A run that was killed goes on where it was
    when it is started again, and ends with the same bytes.

    Example: cpfd score clips --output predictions

    Example: cpfd score uploads.parquet --videos mp4 --output predictions --model v1.2.0 --json
    """
    import json

    from tqdm import tqdm
    from transformers.utils import logging

    from cpfd.scoring.shards import classified, find_model, open_scoring

    logging.disable_progress_bar()
    with (
        open_scoring(
            source,
            find_model(model),
            output,
            videos=videos,
            shard_clips=shard_clips,
            threads=threads,
            force=force,
        ) as scoring,
        tqdm(total=scoring.clips.count, desc="score", unit="clip", smoothing=0.1) as progress,
    ):
        scoring.score(scoring.shards(), max_quarantine_share, progress.update)
        summary = scoring.write(output)
    if as_json:
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
        return
    typer.echo(f"{classified(summary)}: {output}")
    for name, clips in summary["predicted"].items():
        typer.echo(f"  {name}: {clips}")
    typer.echo(f"quarantine: {summary['quarantined']} clips")
    for reason, clips in summary["reasons"].items():
        typer.echo(f"  {reason}: {clips}")
    if missing := summary["missing_text_columns"]:
        typer.echo(f"note: the student also reads {', '.join(missing)}, which {summary['source']} does not have")
    if left_out := summary["left_out_files"]:
        typer.echo(f"note: {left_out} files are not called like clips and were left out")


@app.command()
def results(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table as Markdown, for a page or a PR.")
    ] = False,
) -> None:
    """Print the result table and the gate's verdict of the last `dvc repro`; reports/metrics.json is for scripts.

    Example: dvc repro && cpfd results
    """
    from rich.console import Console

    from cpfd.errors import CpfdError
    from cpfd.evaluation.report import result_markdown, result_table, verdict
    from cpfd.files import read_json

    reports = Path("reports")
    needed = [reports / "metrics.json", reports / "gate.json", reports / "index.html"]
    for path in needed:
        if not path.is_file():
            raise CpfdError(f"{path}: not there yet; `dvc repro` makes it, `dvc pull` fetches it")
    metrics, gate = (read_json(path) for path in needed[:2])
    if markdown:
        typer.echo(f"{result_markdown(metrics)}\n\n{verdict(metrics, gate)}")
        return
    console = Console()
    console.print(result_table(metrics))
    console.print(verdict(metrics, gate))
    console.print(f"The whole report: {needed[2]}")


@app.command()
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
    import json

    from cpfd.files import written_aside
    from cpfd.review import report
    from cpfd.review.results import read_plots

    sides = dict(zip(("base", "head"), report.open_sides(base, head), strict=True))
    facts = report.review(**sides)
    images = {side: read_plots(revision) for side, revision in sides.items()} if plots or form == "html" else {}
    if form == "json":
        text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"
    else:
        text = report.to_markdown(facts) if form == "md" else report.to_html(facts, images)
    if output is None:
        typer.echo(text, nl=False)
    else:
        with written_aside(output) as aside:
            aside.write_text(text, encoding="utf-8")
    for side, of in images.items() if plots else ():
        for name, image in of.items():
            with written_aside(Path(f"{plots}/{side}/{name}.png")) as aside:
                aside.write_bytes(image)


@app.command()
def online(
    log: Annotated[
        Path, typer.Argument(metavar="LOG", help="Parquet or CSV log, one row per served clip (docs/online.md).")
    ],
    control: Annotated[
        str | None, typer.Option(metavar="NAME", help="The control among the two variants. None: champion.")
    ] = None,
    split: Annotated[float, typer.Option(help="Planned share of units that get the treatment.")] = 0.5,
    min_lift: Annotated[float, typer.Option(help="Least lift that is worth a launch, in units of the outcome.")] = 0.0,
    expected_units: Annotated[
        int, typer.Option(help="About how many units there will be: the interval is narrowest there, valid everywhere.")
    ] = 10_000,
    interval: Annotated[float, typer.Option(help="Probability that the interval is right at all looks.")] = 0.95,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Plot the interval as it evolved to this file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with every number and earlier looks.")] = False,
) -> None:
    """Read an online experiment of two variants: go, stop or keep running, however often you look.

    Choose the options before the first look, and keep them.

    Example: cpfd online served.parquet

    Example: cpfd online served.csv --control old --split 0.1 --min-lift 0.005 --plot lift.png
    """
    import json

    from rich.console import Console

    from cpfd.online.readout import Plan, analyse, read_log, render

    plan = Plan(split, min_lift, expected_units, interval)
    readout = analyse(read_log(log, control), plan)
    if plot is not None:
        from cpfd.evaluation.plots import plot_online

        plot_online(plot, readout)
    if as_json:
        typer.echo(json.dumps(readout, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        Console().print(render(readout))


@app.command()
def promote(
    rev: Annotated[str, typer.Argument(help="Git revision or experiment whose student is promoted.")] = "HEAD",
    to: Annotated[
        Literal["production", "staging"], typer.Option(help="The stage that it is assigned to.")
    ] = "production",
    reason: Annotated[str | None, typer.Option(help="Why, for those who read the tag.")] = None,
    bump: Annotated[
        Literal["major", "minor", "patch"], typer.Option(help="The part of the version that rises.")
    ] = "minor",
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


@app.command()
def rollback(
    stage: Annotated[Literal["production", "staging"], typer.Option(help="The stage that goes back.")] = "production",
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


def _tell(outcome: "Outcome") -> None:
    typer.echo(f"{outcome.version} is now {outcome.place}.")
    where = f"pushed to {outcome.pushed_to}" if outcome.pushed_to else "in this clone alone: git has no remote"
    typer.echo(f"Tags {', '.join(outcome.tags)} ({where}).")
    if outcome.stage == "production":
        typer.echo(f"The next student is held against it: set champion.version to {outcome.version} in params.yaml.")


@app.command()
def models(as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False) -> None:
    """List the registered versions of the student that this clone knows: stages, metrics, who, when and why.

    `git fetch --tags` brings what others have registered.

    Example: cpfd models --json
    """
    import json

    from cpfd.promotion.promote import list_versions

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


@app.command()
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
    from transformers.utils import logging

    from cpfd.comparing import page as duel_page
    from cpfd.comparing.disagreements import hold_duel

    logging.disable_progress_bar()
    page = output if as_json else output or Path("compare.html")
    with TemporaryDirectory() as scratch:
        duel = hold_duel(champion, challenger, load_params(), clips, Path(scratch))
        if page is not None:
            with written_aside(page) as aside:
                aside.write_text(duel_page.render_page(duel), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(duel.report, indent=2, ensure_ascii=False, allow_nan=False))
        return
    console = Console()
    console.print(duel_page.result_table(duel.report))
    console.print(duel_page.verdict(duel.report), duel_page.difference_sentence(duel.report), markup=False)
    console.print(f"The clips on which they disagree most: {page}", markup=False)


@app.command()
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


import_app = typer.Typer(
    help="Build a data set in data/raw/NAME from your own data (docs/datasets.md).", no_args_is_help=True
)
app.add_typer(import_app, name="import")

Name = Annotated[str, typer.Option("--name", help="Name of the data set: the folder below data/raw.")]
DenseSources = Annotated[
    list[str] | None,
    typer.Option(
        "--dense",
        metavar="TABLE|motion",
        help="Dense features: a CSV or Parquet table by video_id, or `motion` to measure every frame. Repeat for both.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a data set of that name.")]
ClassFolders = Annotated[
    Path, typer.Argument(metavar="SRC", help="Folder with one folder of videos or images per class.")
]
Text = Annotated[
    Path | None, typer.Option(metavar="TABLE", help="Table of text columns (title, caption, ...) by video_id.")
]
Creators = Annotated[
    Path | None,
    typer.Option(metavar="TABLE", help="Table of video_id and creator_id. Else SRC/videos.txt names each source."),
]
Unlabelled = Annotated[str, typer.Option(help="Folder of the clips that have no label.")]
Table = Annotated[Path, typer.Argument(metavar="SRC", help="CSV or Parquet table with one row per clip.")]
Columns = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="NAME=COLUMN", help="The table's column for a column of the contract. Repeat."),
]
TableVideos = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder that the column path is relative to. None: text only.")
]
Snapshots = Annotated[Path, typer.Argument(metavar="SRC", help="Folder with videos.csv and categories.json.")]
GroupBy = Annotated[
    Literal["creator", "none"],
    typer.Option(
        help="creator: no channel in two splits. none: videos are split at random by params.yaml's `split`,"
        " and the topics of the creator's earlier training videos become dense features."
    ),
]
Tags = Annotated[
    Literal["embedded", "hashed"],
    typer.Option(help="How tags become numbers: by MiniLM (about a minute), or by hash (at once, says less)."),
]
Dvc = Annotated[bool, typer.Option("--dvc/--no-dvc", help="Put the data set under DVC's care with `dvc add`.")]


@import_app.command("folder")
def import_folder_command(
    src: ClassFolders,
    name: Name,
    text: Text = None,
    dense: DenseSources = None,
    creators: Creators = None,
    unlabelled: Unlabelled = "unlabelled",
    force: Force = False,
    dvc: Dvc = True,
) -> None:
    """Import videos that lie in one folder per class; a file's name is its video_id.

    Example: cpfd import folder clips --name clips --dense motion

    Example: cpfd import folder clips --name clips --text captions.csv --dense engagement.parquet --dense motion
    """
    from cpfd.importing.folder import import_folder
    from cpfd.importing.sources import import_dataset

    read = partial(import_folder, src, text=text, dense=dense or [], creators=creators, unlabelled=unlabelled)
    typer.echo(import_dataset(name, read, force=force, dvc=dvc))


@import_app.command("table")
def import_table_command(
    src: Table,
    name: Name,
    columns: Columns = None,
    videos: TableVideos = None,
    dense: DenseSources = None,
    force: Force = False,
    dvc: Dvc = True,
) -> None:
    """Import a table of clips under any column names.

    Example: cpfd import table clips.csv --name clips --map label=category --map path=file --videos mp4

    Example: cpfd import table posts.parquet --name posts --map label=topic --dense engagement.csv
    """
    from cpfd.importing.sources import import_dataset
    from cpfd.importing.table import import_table, parse_mapping

    read = partial(import_table, src, columns=parse_mapping(columns or []), videos=videos, dense=dense or [])
    typer.echo(import_dataset(name, read, force=force, dvc=dvc))


@import_app.command("youtube-trending")
def import_youtube_trending_command(
    src: Snapshots,
    name: Name,
    group_by: GroupBy = "creator",
    tags: Tags = "embedded",
    force: Force = False,
    dvc: Dvc = True,
) -> None:
    """Import daily snapshots of trending YouTube videos: titles as content, all else dense; no video files.

    Example: cpfd import youtube-trending youtube --name youtube

    Example: cpfd import youtube-trending youtube --name youtube-history --group-by none --tags hashed
    """
    from cpfd.importing.sources import import_dataset
    from cpfd.importing.youtube import import_youtube_trending
    from cpfd.params.load import load_params

    split = load_params().split if group_by == "none" else None
    read = partial(import_youtube_trending, src, tags=tags, split=split)
    typer.echo(import_dataset(name, read, force=force, dvc=dvc))


def main() -> None:
    """Run the command line; an error of the user's is a message on standard error and exit code 1."""
    from cpfd.errors import CpfdError

    try:
        app()
    except CpfdError as error:
        sys.exit(f"error: {error}")
