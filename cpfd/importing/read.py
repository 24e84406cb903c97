"""From a source to what its import adapter makes of it."""

from cpfd.importing.dataset import Imported
from cpfd.importing.sources import FolderSource, Source, TableSource, YoutubeTrendingSource


def read_source(source: Source) -> Imported:
    """Read a source with the adapter of its kind; raises CpfdError as that does."""
    match source:
        case FolderSource():
            from cpfd.importing.folder import import_folder

            return import_folder(source)
        case TableSource():
            from cpfd.importing.table import import_table

            return import_table(source)
        case YoutubeTrendingSource():
            from cpfd.importing.youtube import import_youtube_trending
            from cpfd.params.load import load_params

            return import_youtube_trending(source, load_params().split if source.group_by == "none" else None)
