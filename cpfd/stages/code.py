"""Stage `code`: which code and libraries are behind each other stage, so that DVC runs again what they change."""

from cpfd.code import write_code
from cpfd.paths import CODE
from cpfd.stages import run


def main() -> None:
    """Read the package and its lock file; write code/<stage>.txt for every other stage."""
    write_code(CODE)


if __name__ == "__main__":
    run(main)
