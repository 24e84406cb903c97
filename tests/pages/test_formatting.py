"""Numbers, parameters and times read as people write them."""

from cpfd.pages.formatting import duration, plain, share, signed


def test_numbers_are_written_as_people_read_them() -> None:
    assert signed(-0.0123) == "\N{MINUS SIGN}0.012"
    assert share(0.004) == "0.4\N{NO-BREAK SPACE}%"
    assert share(-0.25) == "\N{MINUS SIGN}25\N{NO-BREAK SPACE}%"
    assert [plain(value) for value in (True, None, 0.001, 87.3125, ["a", 1])] == [
        "yes",
        "null",
        "0.001",
        "87.31",
        "a, 1",
    ]


def test_times_are_told_in_the_unit_that_fits() -> None:
    assert [duration(seconds) for seconds in (40, 420, 9000)] == ["40 s", "7 min", "2.5 h"]
