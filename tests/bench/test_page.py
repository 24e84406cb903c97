"""docs/results.md is what docs/results.json says, and the record keeps what it is given."""

import json
from pathlib import Path

import pytest

from bench.page import BEGIN, END, NUMBERS, PAGE, markdown
from bench.record import Record, read_record, write_record
from bench.tasks import load_tasks


@pytest.fixture(scope="module")
def record() -> Record:
    """The record in the repository."""
    return read_record(NUMBERS)


def test_the_tables_of_the_page_are_those_of_the_record(record: Record) -> None:
    written = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    tasks = load_tasks([found.task for found in record.tasks], quick=False)
    assert written.endswith(f"\n\n{markdown(record, tasks)}\n")


def test_a_record_is_read_as_it_was_written(record: Record, tmp_path: Path) -> None:
    write_record(tmp_path / "results.json", record)
    assert read_record(tmp_path / "results.json") == record
    assert (tmp_path / "results.json").read_bytes() == NUMBERS.read_bytes()


def test_a_number_keeps_six_digits(record: Record) -> None:
    row = next(iter(record.overall.values()))
    row = row.model_copy(update={"title": "a, [b] {c}", "gap_closed": 0.00123456789})
    kept = json.loads(Record(tasks=[], overall={"model": row}).as_json())["overall"]["model"]
    assert kept["gap_closed"] == 0.00123457
    assert kept["title"] == "a, [b] {c}"
