"""What code and libraries the stages of a revision run with."""

from cpfd.code import PACKAGE, describe_stage, stage_names
from cpfd.paths import REQUIREMENTS
from cpfd.project.revision import Revision


def code_files(revision: Revision) -> dict[str, str]:
    """What code/<stage>.txt says, or would say once stage `code` has run, by stage.

    Raises CpfdError where a module of that revision is no Python.
    """
    paths = [*revision.files(PACKAGE), REQUIREMENTS]
    sources = {path.as_posix(): content for path, content in revision.read_all(paths).items()}
    return {stage: describe_stage(stage, sources) for stage in stage_names(sources)}
