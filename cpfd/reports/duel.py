"""What `cpfd compare --json` prints: two students of any two revisions, and the clips on which they disagree.

Of several bases, the fields of the last come first.
"""

from cpfd.reports.champion import Comparison, Sides
from cpfd.reports.report import Part


class NamedRevision(Part):
    """A revision whose student is compared."""

    name: str
    """What the user called it."""
    commit: str | None
    """Null for the work tree."""


class ComparedRevisions(Part):
    """The revisions of both students."""

    champion: NamedRevision
    challenger: NamedRevision


class _Contest(Part):
    revisions: ComparedRevisions
    dataset: str
    task: str
    interval: float
    """Coverage of the intervals."""


class Latency(Sides):
    """Median milliseconds a clip, from file to logits."""

    clips: int
    """Test clips that both were timed on, in turns."""


class Differences(Part):
    """The clips on which the two predict differently."""

    clips: int
    champion_right: int
    """On how many of them the champion is right, in every class."""
    challenger_right: int


class Opinion(Part):
    """What a student says of a clip."""

    predicted: list[str]
    right: bool
    probabilities: dict[str, float]
    """Of the classes that it knows, the most probable first."""


class Disagreement(Part):
    """A clip on which the two disagree."""

    video_id: str
    path: str
    """Relative to the data set's videos; empty for a clip of text alone."""
    text: str
    label: str
    differ: bool
    """Whether the predictions differ."""
    distance: float
    """How far apart the probabilities are, 0 to 1: total variation distance for `single_label`, else the largest
    difference in a class."""
    champion: Opinion
    challenger: Opinion


class DuelReport(Comparison, _Contest):
    """Two students of any two revisions on the test clips of the second."""

    latency_ms: Latency | None
    """Null where there is no clip."""
    differ: Differences | None
    """Null where the two cannot be compared."""
    disagreements: list[Disagreement]
    """Other predictions first, then by distance."""
