"""Whether the model of a revision is in the DVC remote byte by byte, as dvc.lock records it."""

import json
from collections.abc import Iterator, Mapping
from hashlib import file_digest, md5
from typing import Any

from cpfd.errors import CpfdError
from cpfd.paths import PACKAGE
from cpfd.project.revision import Revision, git


def check_model(revision: Revision) -> dict[str, Any]:
    """Read the whole model of a revision from the DVC remote and compare it with dvc.lock; {md5, bytes, files}.

    Where the revision is what the work tree has checked out, models/student there is compared as well. Raises CpfdError
    that names the first file that is missing or differs.
    """
    from dvc.config import NoRemoteError
    from dvc.exceptions import DvcException

    recorded = revision.recorded(PACKAGE)
    try:
        remote = revision.repo.cloud.get_remote_odb()
    except NoRemoteError:
        raise CpfdError(
            "no default DVC remote is set, so nobody else could get the model: `dvc remote add --default NAME URL`,"
            " commit .dvc/config, `dvc push`"
        ) from None
    except DvcException as error:
        raise CpfdError(f"the DVC remote cannot be used: {error}") from None
    where = f"{PACKAGE} of {revision.name}"
    index = b"".join(_read_object(remote, recorded, where))
    _refuse_other_bytes(md5(index, usedforsecurity=False).hexdigest(), recorded, f"the list of files of {where}")
    entries, size = json.loads(index), 0
    for entry in entries:
        file, digest = f"{PACKAGE / entry['relpath']} of {revision.name}", md5(usedforsecurity=False)
        for block in _read_object(remote, entry["md5"], file):
            digest.update(block)
            size += len(block)
        _refuse_other_bytes(digest.hexdigest(), entry["md5"], f"{file}, as it is in the DVC remote,")
    if revision.commit == git("rev-parse", "HEAD").strip() and PACKAGE.is_dir():
        _check_work_tree({entry["relpath"]: entry["md5"] for entry in entries})
    return {"md5": recorded, "bytes": size, "files": len(entries)}


def _read_object(remote: Any, oid: str, what: str) -> Iterator[bytes]:
    # A server of files need not know parts of files: what it sends is read as it comes.
    options = {"block_size": 0} if remote.fs.protocol in ("http", "https") else {}
    try:
        with remote.fs.open(remote.oid_to_path(oid), "rb", **options) as stream:
            while block := stream.read(1 << 20):
                yield block
    except FileNotFoundError:
        raise CpfdError(f"{what} is not in the DVC remote: `dvc push` it from where it was made") from None
    except Exception as error:  # each kind of remote fails in a way of its own
        raise CpfdError(f"{what} cannot be read from the DVC remote: {str(error) or type(error).__name__}") from error


def _refuse_other_bytes(found: str, recorded: str, what: str) -> None:
    if found != recorded.removesuffix(".dir"):
        raise CpfdError(
            f"{what} is not what dvc.lock records (md5 {found}, recorded {recorded}): it was changed after it was made;"
            " delete that copy, `dvc repro` and `dvc push`"
        )


def _check_work_tree(recorded: Mapping[str, str]) -> None:
    present = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*") if path.is_file()}
    for name in sorted(recorded.keys() | present.keys()):
        if name not in present:
            raise CpfdError(f"{PACKAGE / name} is missing in the work tree: `dvc checkout {PACKAGE}`")
        if name not in recorded:
            raise CpfdError(f"{PACKAGE / name} is no part of the model in dvc.lock: `dvc checkout {PACKAGE}`")
        with present[name].open("rb") as stream:
            digest = file_digest(stream, lambda: md5(usedforsecurity=False))
        _refuse_other_bytes(digest.hexdigest(), recorded[name], f"{PACKAGE / name} in the work tree")
