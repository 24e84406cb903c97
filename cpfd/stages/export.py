"""Stage `export`: models/student, all that it takes to classify files elsewhere."""

import io

from ruamel.yaml import YAML

from cpfd.files import read_json, written_aside
from cpfd.params.load import load_params
from cpfd.paths import CONFIDENCE, MODELS, REPORTS, VALIDATED
from cpfd.stages import run
from cpfd.student.package import assemble_student, write_package


def main() -> None:
    """Read the shipped student and the reports; write models/student. The gate's verdict is in its model card."""
    params = load_params("export")
    metrics = read_json(REPORTS / "metrics.json")
    shipped = metrics["shipped"]
    student = assemble_student(MODELS / "students" / f"{shipped['method']}-{shipped['seed']}")
    parameters = io.StringIO()
    YAML().dump({group: values for group, values in params.model_dump().items() if values}, parameters)
    card = {
        "dataset": read_json(VALIDATED / "dataset.json"),
        "metrics": metrics,
        "shipped": shipped,
        "gate": read_json(REPORTS / "gate.json"),
        "confidence": read_json(CONFIDENCE / "summary.json"),
        "parameters": parameters.getvalue(),
    }
    with written_aside(MODELS / "student") as aside:
        write_package(student, aside, card)


if __name__ == "__main__":
    run(main)
