"""Generate the demo data set: reads the group `demo` of params.yaml, writes data/raw/demo."""

from cpfd.demo import generate
from cpfd.params.load import load_params
from cpfd.paths import GENERATED, RAW
from cpfd.stages import run


def main() -> None:
    """Write data/raw/demo."""
    generate(RAW / GENERATED, load_params("demo").demo)


if __name__ == "__main__":
    run(main)
