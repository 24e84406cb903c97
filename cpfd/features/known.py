"""Features that need not be made again: those of the store that dvc.lock records, out of DVC's cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cpfd.errors import CpfdError
from cpfd.features.store import PARTS, Shards, shard_file
from cpfd.files import SCRATCH, read_json, read_table, remove
from cpfd.paths import CONTENT
from cpfd.project.revision import open_revision


class KnownClips:
    """The clips of a store whose features were made in the same way, and of those in its quarantine the reasons."""

    def __init__(self, folder: Path | None = None, state: str = "") -> None:
        """Read the store in `folder`; nothing is known where there is none, or one that another encoder made."""
        self._rows: dict[str, int] = {}
        self._reasons: dict[str, str] = {}
        if folder is None or read_json(folder / "meta.json").get("state") != state:
            return
        self._folder, self._shards = folder, Shards(folder)
        self._rows = {key: row for row, key in enumerate(read_table(folder / "index.parquet")["key"])}
        quarantine = read_table(folder / "quarantine.parquet")
        self._reasons = dict(zip(quarantine["key"], quarantine["reason"], strict=True))

    def has(self, key: str) -> bool:
        """Whether a clip with this key need not be decoded."""
        return key in self._rows or key in self._reasons

    def reason(self, key: str) -> str:
        """Why a known clip cannot be decoded; "" where it can."""
        return self._reasons.get(key, "")

    def shard(self, name: str) -> Path | None:
        """The file of a whole shard."""
        known = self._rows and name in self._shards.names
        return self._folder / "shards" / shard_file(name) if known else None

    def arrays(self, key: str) -> tuple[NDArray[Any], ...]:
        """What a clip became, in the order of PARTS."""
        row = self._rows[key]
        shard = int(self._shards.starts.searchsorted(row, side="right")) - 1
        arrays = self._shards.map(shard)
        return tuple(arrays[part][row - self._shards.starts[shard]] for part in PARTS)


@contextmanager
def recorded_clips(state: str) -> Iterator[KnownClips]:
    """The clips of the store that dvc.lock records, if DVC's cache has all of it, for an encoder of that state.

    DVC removes the outputs of a stage before it runs; what it has put into its cache stays there.
    """
    place = SCRATCH / "known"
    remove(place)
    try:
        yield KnownClips(place, state) if _link_recorded(place) else KnownClips()
    finally:
        remove(place)


def _link_recorded(place: Path) -> bool:
    """Give the files of the recorded store their names back, in `place`; False where not all of it is there."""
    try:
        revision = open_revision(None)
        listing = revision.listing(CONTENT) or {}
    except CpfdError:  # no repository of git and DVC: a stage that somebody runs by hand
        return False
    files = {name: revision.in_cache(md5) for name, md5 in listing.items()}
    for name, file in files.items():
        if file is None:
            return False
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).symlink_to(file.absolute())
    return "shards.parquet" in files
