"""What another revision says about itself: `cpfd.project.revision`."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from cpfd.errors import CpfdError
from cpfd.project.revision import open_revision
from tests.support.toy import commit, toy_project


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("name", ["../../../evil", "videos/../../evil", "../cache/evil"])
def test_a_strangers_list_of_files_leads_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, cached: bool
) -> None:
    """DVC names a folder's files in a list, which whoever pushes to the remote can write."""
    project = toy_project(tmp_path / "project")
    listed = json.dumps([{"md5": hashlib.md5(b"evil").hexdigest(), "relpath": name}]).encode()
    digest = hashlib.md5(listed).hexdigest()
    project.run("dvc", "remote", "add", "--quiet", "--default", "store", str(tmp_path / "store"))
    for store in [tmp_path / "store", *([project.folder / ".dvc/cache"] if cached else [])]:
        for content, suffix in ((listed, ".dir"), (b"evil", "")):
            known = hashlib.md5(content).hexdigest()
            file = store / "files/md5" / known[:2] / (known[2:] + suffix)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    (project.folder / "box.dvc").write_text(f"outs:\n- md5: {digest}.dir\n  hash: md5\n  path: box\n")
    commit(project, "evil")
    monkeypatch.chdir(project.folder)
    before = files(tmp_path)

    revision = open_revision("HEAD")
    with pytest.raises(CpfdError, match="outside of"):
        revision.fetch(Path("box"), tmp_path / "fetched")
    if cached:
        with pytest.raises(CpfdError, match=f"names '{re.escape(name)}', which is outside of its folder"):
            revision.listing(Path("box"))
    assert "evil" not in {path.name for path in files(tmp_path) - before}


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}
