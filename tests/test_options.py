"""Options are declared once: the command line and a flow show and enforce what a dataclass says."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
import typer
from annotated_types import Ge, Le
from pydantic import TypeAdapter, ValidationError
from typer.testing import CliRunner, Result

from cpfd.options import help_texts, with_options_of


@dataclass(frozen=True, kw_only=True)
class Baking:
    """How a cake is baked; `oven` is no option."""

    cake: Annotated[str, typer.Argument(metavar="CAKE", help="Which cake.")]
    minutes: Annotated[int, Ge(1), Le(90), typer.Option(help="Time in the oven.")] = 40
    toppings: Annotated[list[str], typer.Option("--topping", help="What goes on it. Repeat.")] = field(
        default_factory=list
    )
    oven: str = "gas"


app = typer.Typer()


@app.command()
@with_options_of(Baking)
def bake(baking: Baking, name: Annotated[str, typer.Option(help="Whose cake.")], gift: bool = False) -> None:
    """Bake a cake."""
    typer.echo(f"{baking} for {name}{' as a gift' * gift}")


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words, env={"COLUMNS": "150"})


def test_a_command_makes_the_dataclass_of_what_it_is_told() -> None:
    told = run("tart", "--minutes", "25", "--topping", "plums", "--topping", "cream", "--name", "Ann", "--gift")
    expected = Baking(cake="tart", minutes=25, toppings=["plums", "cream"])
    assert told.stdout == f"{expected} for Ann as a gift\n"


def test_what_is_not_told_has_the_default_of_the_dataclass() -> None:
    assert run("tart", "--name", "Ann").stdout == f"{Baking(cake='tart')} for Ann\n"


def test_help_shows_texts_defaults_and_limits_and_what_is_needed_first() -> None:
    shown = run("--help").stdout
    assert all(text in shown for text in help_texts(Baking).values())
    assert "1<=x<=90" in shown
    assert "[default: 40]" in shown
    assert "--oven" not in shown
    assert shown.index("--name") < shown.index("--minutes") < shown.index("--gift")


@pytest.mark.parametrize("words", [["tart"], ["--name", "Ann"], ["tart", "--name", "Ann", "--minutes", "0"]])
def test_misuse_exits_with_two(words: list[str]) -> None:
    assert run(*words).exit_code == 2


@pytest.mark.parametrize(("given", "why"), [({"minutes": 91}, "less than or equal to 90"), ({}, "cake")])
def test_json_has_the_same_limits(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        TypeAdapter(Baking).validate_python({"cake": "tart", **given} if given else {})
