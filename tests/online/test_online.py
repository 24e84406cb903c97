"""An online experiment can be read every day, says go or stop only when it may, and refuses what would mislead."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console
from typer.testing import CliRunner

from cpfd.cli import app
from cpfd.errors import CpfdError
from cpfd.files import write_table
from cpfd.online.log import read_log
from cpfd.online.plot import plot_lift
from cpfd.online.readout import analyse, render
from cpfd.online.sequence import (
    MIN_UNITS,
    Moments,
    Plan,
    absolute_lift,
    critical_value,
    decide,
    mismatch_p_value,
    moments,
    more_units,
    relative_lift,
)

Floats = NDArray[np.float64]


def served(
    units: int = 4000, champion: float = 0.6, challenger: float = 0.6, split: float = 0.5, seed: int = 0
) -> pd.DataFrame:
    """A log of one clip per unit and minute, with the probability of outcome 1 of each variant."""
    rng = np.random.default_rng(seed)
    treated = rng.random(units) < split
    return pd.DataFrame(
        {
            "variant": np.where(treated, "challenger", "champion"),
            "unit_id": [f"unit {number}" for number in range(units)],
            "served_at": pd.date_range("2025-03-01", periods=units, freq="min", tz="UTC"),
            "outcome": (rng.random(units) < np.where(treated, challenger, champion)).astype(float),
        }
    )


def read(folder: Path, table: pd.DataFrame, plan: Plan | None = None, control: str | None = None) -> dict[str, Any]:
    path = folder / "log.parquet"
    write_table(path, table)
    return analyse(read_log(path, control), plan or Plan())


def shown(readout: dict[str, Any]) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(render(readout))
    return flat(capture.get())


def flat(text: str) -> str:
    return " ".join(text.replace("\N{NO-BREAK SPACE}", " ").split())


@pytest.mark.parametrize(
    ("champion", "challenger", "min_lift", "decision", "sentence"),
    [
        (0.5, 0.6, 0.0, "go", "Go: challenger is better than champion: mean outcome +0."),
        (0.5, 0.65, 0.05, "go", "Go: challenger is better than champion by more than 0.050: "),
        (0.6, 0.5, 0.0, "harm", "Stop: challenger is worse than champion: mean outcome \N{MINUS SIGN}0."),
        (0.6, 0.6, 0.1, "futility", "Stop: challenger is not better than champion by 0.100: "),
        (0.6, 0.61, 0.0, "continue", "Keep running: the interval includes 0, "),
        (0.6, 0.65, 0.06, "continue", "Keep running: the interval includes 0.060, "),
    ],
)
def test_the_sentence_says_go_stop_or_keep_running(
    tmp_path: Path, champion: float, challenger: float, min_lift: float, decision: str, sentence: str
) -> None:
    readout = read(tmp_path, served(8000, champion, challenger), Plan(min_lift=min_lift))
    assert readout["decision"] == readout["looks"][-1]["decision"] == decision
    assert readout["sentence"].startswith(sentence)
    assert shown(readout).endswith(flat(readout["sentence"]))


def draw(runs: int, units: int, success: float, split: float, seed: int) -> tuple[Floats, NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    return (rng.random((runs, units)) < success).astype(float), rng.random((runs, units)) < split


@pytest.mark.parametrize(("success", "split"), [(0.3, 0.5), (0.01, 0.05)])
@pytest.mark.parametrize("expected_units", [400, 10_000])
def test_peeking_after_every_unit_keeps_the_error_of_the_interval_but_not_that_of_a_z_interval(
    success: float, split: float, expected_units: int
) -> None:
    outcomes, treated = draw(250, 3000, success, split, seed=5)
    every, plan = np.arange(3000), Plan(split=split, expected_units=expected_units)
    missed = missed_by_z = 0
    for outcome, member in zip(outcomes, treated, strict=True):
        path = absolute_lift(moments(outcome, ~member, every), moments(outcome, member, every), plan)
        missed += ((path["low"] > 0) | (path["high"] < 0)).any()
        missed_by_z += (path["lift"].abs() > 1.96 * path["error"]).any()
    assert missed <= 0.05 * len(outcomes)
    if split == 0.5:
        assert missed_by_z > 0.2 * len(outcomes)


def test_peeking_keeps_the_error_of_the_relative_lift() -> None:
    rng = np.random.default_rng(6)
    missed = bounded = 0
    for _ in range(100):
        treated = rng.random(4000) < 0.5
        outcome = rng.exponential(np.where(treated, 1.3, 1.0))
        for look in np.geomspace(300, 3999, 8).astype(np.int64):
            one = np.array([look])
            lift = relative_lift(moments(outcome, ~treated, one), moments(outcome, treated, one), Plan())
            bounded += lift["low"] is not None
            if lift["low"] is not None and not lift["low"] <= 0.3 <= lift["high"]:
                missed += 1
                break
    assert bounded > 700
    assert missed <= 5


def test_peeking_keeps_the_error_of_the_sample_ratio() -> None:
    treated = np.cumsum(np.random.default_rng(7).random((1000, 2000)) < 0.3, axis=1)
    lowest = mismatch_p_value(treated, np.arange(1, 2001) - treated, 0.3).min(axis=1)
    assert 0.001 < (lowest <= 0.05).mean() <= 0.05


def test_a_sample_ratio_mismatch_blocks_a_go(tmp_path: Path) -> None:
    table = served(20_000, 0.5, 0.6)
    lost = (table["variant"] == "challenger") & (table["outcome"] == 0) & (np.arange(len(table)) % 4 == 0)
    readout = read(tmp_path, table[~lost])
    assert readout["lift"]["low"] > 0
    assert readout["decision"] == "invalid"
    assert "check assignment and logging" in readout["sentence"]
    assert readout["sample_ratio"]["p_value"] < 0.001
    assert read(tmp_path, table)["decision"] == "go"


def test_the_planned_split_is_what_the_ratio_is_held_against(tmp_path: Path) -> None:
    table = served(20_000, split=0.1)
    assert read(tmp_path, table, Plan(split=0.1))["decision"] == "continue"
    assert read(tmp_path, table)["decision"] == "invalid"


def test_a_log_of_dates_sorted_by_variant_is_no_mismatch(tmp_path: Path) -> None:
    table = served(10_000)
    table["served_at"] = table["served_at"].dt.date
    readout = read(tmp_path, table.sort_values(["served_at", "variant"]))
    assert readout["sample_ratio"]["p_value"] > 0.01
    assert len(readout["looks"]) == 7


def test_rows_of_a_unit_are_one_observation(tmp_path: Path) -> None:
    table = served()
    once, often = read(tmp_path, table), read(tmp_path, pd.concat([table] * 5))
    assert often["treatment"]["rows"] == 5 * once["treatment"]["rows"]
    assert often["lift"] == once["lift"]

    half = table.assign(outcome=0.0, served_at=table["served_at"] + pd.Timedelta(days=9))
    assert read(tmp_path, pd.concat([table, half]))["lift"]["mean"] == pytest.approx(once["lift"]["mean"] / 2)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 99))
def test_neither_the_order_of_rows_nor_the_side_of_the_control_matters(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("order")
    table = served(400, seed=seed)
    readout = read(folder, table)
    assert read(folder, table.sample(frac=1, random_state=seed)) == readout
    mirrored = read(folder, table, control="challenger")["lift"]
    assert mirrored["low"] == pytest.approx(-readout["lift"]["high"])
    assert mirrored["high"] == pytest.approx(-readout["lift"]["low"])


samples = st.builds(
    lambda units, mean, variance: Moments(np.array([units]), np.array([mean]), np.array([variance])),
    st.integers(MIN_UNITS, 10**7),
    st.floats(0.001, 1000),
    st.floats(0.0001, 1000),
)


@settings(deadline=None)
@given(samples, samples, st.integers(1, 10**6))
def test_relative_and_absolute_lift_agree_on_the_sign(control: Moments, treatment: Moments, expected: int) -> None:
    plan = Plan(expected_units=expected)
    relative = relative_lift(control, treatment, plan)
    absolute = absolute_lift(control, treatment, plan).iloc[0]
    if relative["low"] is None:
        assert absolute["low"] <= control.mean[0] + absolute["lift"]
    elif min(abs(absolute["low"]), abs(absolute["high"])) > 1e-9:
        assert relative["low"] <= relative["mean"] <= relative["high"]
        assert (relative["low"] > 0) == (absolute["low"] > 0)
        assert (relative["high"] < 0) == (absolute["high"] < 0)


@given(st.integers(1, 10**7), st.integers(1, 10**7), st.sampled_from([0.8, 0.95, 0.999]))
def test_the_interval_is_narrowest_at_the_expected_units(units: int, expected: int, interval: float) -> None:
    plan = Plan(expected_units=expected, interval=interval)
    here, best = critical_value(np.array([units, expected]), plan)
    assert here >= best * (1 - 1e-12)


@settings(deadline=None)
@given(samples, samples, st.floats(0, 10))
def test_more_units_are_as_many_as_it_takes(control: Moments, treatment: Moments, min_lift: float) -> None:
    plan = Plan(min_lift=min_lift)
    last = absolute_lift(control, treatment, plan).iloc[-1]
    more = more_units(last, plan)
    if decide(last["low"], last["high"], 1.0, min_lift) != "continue" or more is None:
        return
    grown = (last["units"] + more) / last["units"]
    later = [Moments(arm.units * grown, arm.mean, arm.variance) for arm in (control, treatment)]
    low, high = absolute_lift(*later, plan).iloc[-1][["low", "high"]]
    assert decide(low, high, 1.0, min_lift) != "continue"


def test_there_is_no_interval_before_it_may_be_trusted(tmp_path: Path) -> None:
    early = read(tmp_path, served(150))
    assert early["decision"] == "continue"
    assert early["lift"] == {"mean": None, "low": None, "high": None}
    assert f"the interval starts at {MIN_UNITS} of each variant" in early["sentence"]
    assert "there is no interval of the lift yet" in shown(early)

    constant = read(tmp_path, served(1000, champion=1, challenger=1), Plan(min_lift=0.1))
    assert constant["decision"] == "continue"
    assert "all outcomes so far are the same" in constant["sentence"]


def test_a_ratio_to_nearly_nothing_has_no_interval_and_says_why(tmp_path: Path) -> None:
    rare = read(tmp_path, served(1000, champion=0.004, challenger=0.004))["relative_lift"]
    assert rare["low"] is None
    assert "cannot be told from 0" in rare["reason"]
    negative = served(1000)
    negative["outcome"] -= 5
    assert "not above 0" in read(tmp_path, negative)["relative_lift"]["reason"]


def test_a_broken_challenger_without_a_single_success_is_stopped(tmp_path: Path) -> None:
    assert read(tmp_path, served(4000, champion=0.05, challenger=0.0))["decision"] == "harm"


def test_labels_that_are_found_later_make_the_accuracy(tmp_path: Path) -> None:
    table = served(3000, 0.5, 0.7)
    labelled = table.drop(columns="outcome").assign(prediction=1, label=np.where(table["outcome"] == 1, "1", "2"))
    labelled.loc[labelled.index % 10 == 0, "label"] = None
    readout = read(tmp_path, labelled)
    assert readout["measure"] == "accuracy"
    assert readout["decision"] == "go"
    assert readout["treatment"]["units_with_outcome"] + readout["control"]["units_with_outcome"] == 2700
    assert readout["lift"] == read(tmp_path, table.assign(outcome=table["outcome"].where(table.index % 10 > 0)))["lift"]


def test_missing_outcomes_are_counted_and_a_difference_is_a_warning(tmp_path: Path) -> None:
    table, chance = served(), np.random.default_rng(1).random(4000)
    challenger = table["variant"] == "challenger"
    alike = read(tmp_path, table.assign(outcome=table["outcome"].mask(chance < 0.1)))
    assert alike["warnings"] == []
    assert sum(alike[role]["rows_without_outcome"] for role in ("control", "treatment")) == (chance < 0.1).sum()

    unlike = read(tmp_path, table.assign(outcome=table["outcome"].mask(chance < np.where(challenger, 0.2, 0.1))))
    assert "outcomes are missing in" in unlike["warnings"][0]
    assert "Warning: outcomes are missing in" in shown(unlike)


def test_units_of_both_variants_are_left_out_and_many_are_refused(tmp_path: Path) -> None:
    table = served()
    other = table["variant"].map({"champion": "challenger", "challenger": "champion"})
    few = read(tmp_path, pd.concat([table, table.assign(variant=other)[:20]]))
    assert few["contaminated_units"] == 20
    assert few["control"]["units"] + few["treatment"]["units"] == 3980
    assert few["lift"] == read(tmp_path, table[20:])["lift"]
    assert few["warnings"] == ["units served by both variants were left out: 20"]
    with pytest.raises(CpfdError, match=r"41 of 4,000 units were served by both variants, such as 'unit 0'"):
        read(tmp_path, pd.concat([table, table.assign(variant=other)[:41]]))


def test_other_names_need_a_control(tmp_path: Path) -> None:
    table = served(3000, 0.5, 0.6).replace({"variant": {"champion": "v[1]", "challenger": "v[2]"}})
    with pytest.raises(CpfdError, match=r"name the control of the variants 'v\[1\]', 'v\[2\]' with --control"):
        read(tmp_path, table)
    with pytest.raises(CpfdError, match="--control v3 is none of its variants"):
        read(tmp_path, table, control="v3")
    readout = read(tmp_path, table, control="v[1]")
    assert readout["sentence"].startswith("Go: v[2] is better than v[1]")
    assert "lift of v[2]" in shown(readout)


def test_csv_and_every_way_to_write_a_time_read_alike(tmp_path: Path) -> None:
    table = served(500)
    expected = read(tmp_path, table)
    text = table["served_at"].dt.strftime("%Y-%m-%dT%H:%M:%S")
    zone = table["served_at"].dt.tz_convert("Asia/Kolkata")
    for times in (
        text,
        text + "Z",
        text + ".000001+00:00",
        zone,
        zone.astype(str),
        table["served_at"].astype("object"),
    ):
        assert read(tmp_path, table.assign(served_at=times)) == expected
    path = tmp_path / "log.csv"
    write_table(path, table.assign(more="columns", outcome=table["outcome"].astype(bool)))
    assert analyse(read_log(path), Plan()) == expected
    assert read(tmp_path, table.astype({"variant": "category", "unit_id": "category"})) == expected


def test_ids_and_names_are_taken_as_they_are_written(tmp_path: Path) -> None:
    table = served(300).assign(prediction="NA", label="NA").drop(columns="outcome")
    table["unit_id"] = 7301234567890123000 + np.arange(300)  # as floats, these would be three units
    table["variant"] = table["variant"].map({"champion": "NA", "challenger": "null"})
    for name in ("log.parquet", "log.csv"):
        write_table(tmp_path / name, table)
        log = read_log(tmp_path / name, "NA")
        assert (len(log.outcome), log.outcome.mean()) == (300, 1)
    write_table(tmp_path / "log.parquet", table.astype({"unit_id": float}))
    with pytest.raises(CpfdError, match=r"log.parquet: column unit_id holds floating-point numbers"):
        read_log(tmp_path / "log.parquet", "NA")
    (tmp_path / "log.csv").write_text("variant,unit_id,served_at,outcome\nchampion,1,2025-03-01,0,\n")
    with pytest.raises(CpfdError, match=r"log.csv: the row in line 2 has 5 cells, the header 4"):
        read_log(tmp_path / "log.csv")


def changed(column: str, row: int, value: object) -> pd.DataFrame:
    table = served(300).astype({column: object})
    table.loc[row, column] = value
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (served(300).drop(columns="served_at"), "lacks served_at; it has: variant, unit_id, outcome"),
        (served(300).drop(columns="outcome"), r"lacks prediction and label \(or outcome\); it has: "),
        (served(300)[:0], "has no rows"),
        (served(300).assign(variant="champion"), "variant must have two values.* found 1: 'champion'"),
        (changed("variant", 4, "third"), "variant must have two values.* found 3: 'challenger', 'champion', 'third'"),
        (changed("variant", 4, ""), "variant is empty in row 5;"),
        (changed("unit_id", 0, None), "unit_id is empty in row 1;"),
        (served(300).assign(unit_id=""), "unit_id is empty in row 1 and 299 more"),
        (changed("outcome", 9, np.inf), "outcome is 'inf' in row 10;"),
        (served(300).assign(outcome="good"), "outcome is 'good' in row 1 and 299 more;"),
        (served(300).assign(served_at=1_700_000_000), "served_at holds numbers"),
        (served(300).assign(served_at="yesterday"), "served_at is 'yesterday' in row 1 and 299 more;"),
        (served(300).assign(served_at=pd.NaT), "served_at is empty in row 1 and 299 more;"),
        (
            served(300).drop(columns="outcome").assign(label="a", prediction=[None, *["a"] * 299]),
            "prediction is empty in row 1;",
        ),
    ],
)
def test_a_log_that_would_mislead_is_refused(tmp_path: Path, table: pd.DataFrame, message: str) -> None:
    for path in (tmp_path / "log.parquet", tmp_path / "log.csv"):
        if path.suffix == ".csv" and "numbers" in message:
            continue  # in CSV these are words, and refused as no times
        write_table(path, table)
        with pytest.raises(CpfdError, match=f"{path}: {message}"):
            read_log(path)


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    for name, content, message in [
        ("absent.csv", None, "no such file"),
        ("log.txt", b"variant", "expected a .parquet or .csv table"),
        ("log.parquet", b"not parquet", "not a readable parquet table"),
        ("log.csv", b"", "not a readable csv table"),
    ]:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(CpfdError, match=f"{name}: {message}"):
            read_log(tmp_path / name)


@pytest.mark.parametrize(
    "wrong",
    [{"split": 1.0}, {"min_lift": -0.1}, {"min_lift": float("nan")}, {"expected_units": 0}, {"interval": 95.0}],
)
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(CpfdError, match=f"--{next(iter(wrong)).replace('_', '-')} "):
        Plan(**wrong)


def test_the_plot_has_the_same_bytes_twice_and_needs_no_interval(tmp_path: Path) -> None:
    for units in (50, 3000):
        readout = read(tmp_path, served(units, 0.5, 0.6), Plan(min_lift=0.01))
        for name in ("a.png", "b.png"):
            plot_lift(tmp_path / name, readout)
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_prints_a_table_json_and_a_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(Path("log.csv"), served(5000, 0.5, 0.6))
    table = CliRunner().invoke(app, ["online", "log.csv", "--min-lift", "0.01", "--plot", "lift.png"])
    assert table.exit_code == 0
    assert "Go: challenger is better than champion by more than 0.010" in table.output
    assert Path("lift.png").is_file()
    as_json = CliRunner().invoke(app, ["online", "log.csv", "--control", "challenger", "--json"])
    assert as_json.exit_code == 0
    assert json.loads(as_json.output)["decision"] == "harm"
    refused = CliRunner().invoke(app, ["online", "log.csv", "--split", "50"])
    assert isinstance(refused.exception, CpfdError)
