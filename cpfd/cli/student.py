"""Commands that classify clips with a student: `predict` a few, `score` many."""

from pathlib import Path
from typing import Annotated

import typer

from cpfd.options import with_options_of
from cpfd.scoring.options import LimitOptions, ScoringOptions


@with_options_of(LimitOptions)
def predict(
    options: LimitOptions,
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

    A file that cannot be classified, or is beyond a limit, is reported and does not stop the rest; the exit code is
    then 1.

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

    from cpfd.scoring.models import Model, introduce
    from cpfd.student.student import Student

    student = Student.load(model)
    typer.echo(introduce(Model(model)), err=True)
    predictions = list(student.predict(files, texts, options.limits))
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


@with_options_of(ScoringOptions)
def score(
    options: ScoringOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Classify many clips: predictions.parquet, quarantine.parquet and summary.json in one folder.

    A clip that cannot be classified goes to quarantine with its reason. A run that was killed goes on where it was
    when it is started again, and ends with the same bytes.

    Example: cpfd score clips --output predictions

    Example: cpfd score uploads.parquet --videos mp4 --output predictions --model v1.2.0 --json
    """
    import json
    import sys

    from tqdm import tqdm

    from cpfd.scoring.models import find_model, introduce
    from cpfd.scoring.shards import classified, open_scoring

    model = find_model(options.model)
    with (
        open_scoring(options, model) as scoring,
        tqdm(total=scoring.clips.count, desc="score", unit="clip", smoothing=0.1) as progress,
    ):
        progress.write(introduce(model), sys.stderr)
        scoring.classify(scoring.shards(), progress.update)
        summary = scoring.write()
    if as_json:
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
        return
    typer.echo(f"{classified(summary)}: {options.output}")
    for name, clips in summary["predicted"].items():
        typer.echo(f"  {name}: {clips}")
    typer.echo(f"quarantine: {summary['quarantined']} clips")
    for reason, clips in summary["reasons"].items():
        typer.echo(f"  {reason}: {clips}")
    if missing := summary["missing_text_columns"]:
        typer.echo(f"note: the student also reads {', '.join(missing)}, which {summary['source']} does not have")
    if left_out := summary["left_out_files"]:
        typer.echo(f"note: {left_out} files are not called like clips and were left out")
