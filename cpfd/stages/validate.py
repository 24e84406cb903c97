"""Stage `validate`: data/raw/<dataset.name> to data/validated, reports/validation.json and reports/validation/."""

from cpfd.datasets.contract import read_dataset
from cpfd.params.load import load_params
from cpfd.paths import RAW, REPORTS, VALIDATED
from cpfd.stages import run
from cpfd.validation.dataset import validate_dataset


def main() -> None:
    """Validate the data set that params.yaml names and print what was found."""
    params = load_params("validate")
    raw = read_dataset(RAW / params.dataset.name)
    report = validate_dataset(raw, params.dataset, params.split, params.validation, VALIDATED, REPORTS)
    labelled = report.dataset.labelled
    for split, clips in report.dataset.clips.items():
        print(f"{split}: {clips} clips, {labelled[split]} with a label")
    print(f"quarantine: {report.quarantine.clips} clips")
    for reason, rows in report.quarantine.reasons.items():
        print(f"  {reason}: {rows}")
    for expectation in report.unmet:
        print(f"warning: expected {expectation.expected}, observed {expectation.observed}")


if __name__ == "__main__":
    run(main)
