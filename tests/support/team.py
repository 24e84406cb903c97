"""A team around a project: a git remote and a DVC remote that its clones share."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.project import Project


@dataclass(frozen=True)
class Team:
    """A bare git repository and a DVC remote that its clones share."""

    origin: Path
    store: Path
    cache: Path

    def clone(self, folder: Path, *, who: str = "Ann") -> Project:
        """Clone as a colleague would, with all data checked out (out of one cache, to save time)."""
        subprocess.run(["git", "clone", "--quiet", self.origin, folder], check=True)
        clone = Project(folder)
        clone.run("git", "config", "user.name", who)
        clone.run("dvc", "cache", "dir", "--local", str(self.cache))
        clone.run("dvc", "checkout", "--quiet", "--allow-missing")
        return clone

    def fork(self, folder: Path) -> "Team":
        """The same project on a git remote of its own, so that a test's tags are its own."""
        subprocess.run(["git", "clone", "--quiet", "--bare", self.origin, folder / "origin.git"], check=True)
        return Team(folder / "origin.git", self.store, self.cache)

    def tags(self) -> list[str]:
        done = subprocess.run(["git", "tag"], cwd=self.origin, check=True, capture_output=True, text=True)
        return done.stdout.split()


def found_team(project: Project, folder: Path) -> Team:
    """A team whose main branch holds the student of a project that was run; nothing is promoted yet."""
    team = Team(folder / "origin.git", folder / "store", folder / "first/.dvc/cache")
    first = project.copy(folder / "first")
    first.run("dvc", "remote", "add", "--quiet", "--default", "store", str(team.store))
    first.run("git", "checkout", "--quiet", "-B", "main")
    first.run("git", "add", ".")
    first.run("git", "commit", "--quiet", "-m", "train the first student")
    first.run("dvc", "push", "--quiet")
    subprocess.run(["git", "clone", "--quiet", "--bare", first.folder, team.origin], check=True)
    return team
