"""What a run starts from and no stage makes: whether it is there, told before anything is run."""

from cpfd.paths import RAW
from cpfd.project.revision import Revision, git


def missing_dataset(revision: Revision, name: str) -> str | None:
    """Why a run at this revision would not find the data set, and what to do, as a sentence; None where it would.

    A run at a commit finds what DVC's cache here has, one in the work tree what lies there.
    """
    folder = RAW / name
    needed, made = (
        any(folder.as_posix() in stage.get(key, []) for stage in revision.stages.values()) for key in ("deps", "outs")
    )
    if made or not needed:
        return None
    if revision.commit is None:
        if folder.is_dir():
            return None
        return f"{folder}: no such folder; `dvc pull {folder}` fetches what others have added, `cpfd import` makes one"
    md5 = revision.hash_of(folder)
    if md5 is None:
        return f"{folder} is not in {revision.name}: `dvc add {folder}`, then commit {folder}.dvc"
    files = revision.files_of(md5)
    absent = files is None or any(revision.in_cache(file) is None for file in files.values())
    return f"{folder} is not whole in DVC's cache: `dvc pull {folder}` first" if absent else None


def untracked_code() -> list[str]:
    """Files of the package in the work tree that git does not know: a run at a commit would lack them."""
    listed = git("ls-files", "--others", "--exclude-standard", "-z", "--", "cpfd")
    return [path for path in listed.split("\0") if path]
