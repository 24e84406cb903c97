"""Stage `validate`: data/raw/<dataset.name> to data/validated, reports/validation.json and reports/validation/."""

from cpfd.datasets.contract import read_dataset
from cpfd.datasets.limits import Limits
from cpfd.datasets.memory import file_memory
from cpfd.datasets.validated import read_clips
from cpfd.files import SCRATCH, fingerprint, read_table
from cpfd.params.load import load_params
from cpfd.paths import CODE, RAW, REPORTS, VALIDATED
from cpfd.stages import run
from cpfd.validation.dataset import validate_dataset
from cpfd.validation.told import told


def main() -> None:
    """Validate the data set that params.yaml names and print what was found."""
    params = load_params("validate")
    raw = read_dataset(RAW / params.dataset.name)
    about = fingerprint([CODE / "validate.txt"], Limits.of(params.validation))
    with file_memory(SCRATCH / "validate" / f"{params.dataset.name}.sqlite", about) as memory:
        report = validate_dataset(raw, params.dataset, params.split, params.validation, VALIDATED, REPORTS, memory)
    quarantine = read_table(VALIDATED / "quarantine.parquet")
    for line in told(raw, report, read_clips(VALIDATED), quarantine, params.validation):
        print(line)


if __name__ == "__main__":
    run(main)
