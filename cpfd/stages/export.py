"""Stage `export`: models/student, all that it takes to classify files elsewhere."""

import io

from ruamel.yaml import YAML

from cpfd.files import read_json, written_aside
from cpfd.params.load import load_params
from cpfd.paths import PACKAGE, SHIPPED, VALIDATED
from cpfd.reports.confidence import read_confidence
from cpfd.reports.gate import GateReport
from cpfd.reports.metrics import MetricsReport
from cpfd.stages import run
from cpfd.student.package import CardFacts, assemble_student, write_package


def main() -> None:
    """Read the shipped student and the reports; write models/student. The gate's verdict is in its model card."""
    params = load_params("export")
    metrics = MetricsReport.read()
    student = assemble_student(SHIPPED)
    parameters = io.StringIO()
    YAML().dump({group: values for group, values in params.model_dump().items() if values}, parameters)
    card = CardFacts(
        dataset=read_json(VALIDATED / "dataset.json"),
        metrics=metrics,
        gate=GateReport.read(),
        confidence=read_confidence(),
        parameters=parameters.getvalue(),
    )
    with written_aside(PACKAGE) as aside:
        write_package(student, aside, card)


if __name__ == "__main__":
    run(main)
