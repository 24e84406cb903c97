"""The benchmark: `python -m bench.run --help`."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from typing import Annotated

import typer

from bench import command
from bench.tasks import Method, Task, load_methods, load_tasks

FIRST_SEED = 200
"""Seeds below are for development, or have been reported before: what is chosen on them is reported on others."""


def main(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="TASK", help="Tasks of bench/tasks; all where none is named.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds, each with a split of its own.")] = 5,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them; 0 to 7 are for development.")] = FIRST_SEED,
    only: Annotated[
        str | None, typer.Option("--methods", metavar="A,B", help="Only these of bench/methods.yaml, and `none`.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Seeds side by side, one thread each.")] = 2,
    quick: Annotated[bool, typer.Option("--quick", help="Small data, one seed: shows that all runs, no more.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all numbers as JSON.")] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Write docs/results.md, its figure and docs/results.json.")
    ] = False,
) -> None:
    """Run the pipeline on tasks, train every method of bench/methods.yaml, and print one table a task.

    Everything finished is kept in .scratch/bench: a killed run goes on where it was, and a second one only reads.
    Progress is on standard error, the output of each job in .scratch/bench/log.

    Example: python -m bench.run fights demo --seeds 2

    Example: python -m bench.run --first-seed 0 --seeds 8 --methods pfd,posterior

    Example: python -m bench.run --seeds 10 --write
    """
    from bench.outcomes import overall, task_outcome
    from bench.page import markdown, write_page
    from bench.record import Record

    tasks = _runnable(load_tasks(names or [], quick=quick))
    methods = load_methods(only.split(",") if only else [], quick=quick)
    numbers = list(range(first_seed, first_seed + (1 if quick else seeds)))
    started = time.monotonic()
    _train(tasks, numbers, methods, processes)
    print(f"trained what was missing in {(time.monotonic() - started) / 60:.1f} min", file=sys.stderr)
    outcomes = [task_outcome(task, numbers, methods) for task in tasks]
    record = Record(tasks=[outcome.record for outcome in outcomes], overall=overall(outcomes))
    print(record.as_json() if as_json else markdown(record, tasks))
    if write:
        write_page(record, tasks)


def _runnable(tasks: list[Task]) -> list[Task]:
    """The tasks whose data are on this machine; the others are told of."""
    for task in tasks:
        if task.missing:
            print(f"{task.name}: skipped, no real data at {task.missing} (CPFD_SHARED_DATA)", file=sys.stderr)
    return [task for task in tasks if not task.missing]


def _train(tasks: list[Task], seeds: list[int], methods: list[Method], processes: int) -> None:
    """Data sets first, then seeds of all tasks, side by side."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        _run_all(pool, {task.base: partial(_prepare, task) for task in tasks})
        _run_all(
            pool, {f"{task.name}-{seed}": partial(_train_seed, task, seed, methods) for seed in seeds for task in tasks}
        )


def _run_all(pool: Executor, jobs: dict[str, Callable[[], None]]) -> None:
    """Run named jobs, with progress on standard error; the first that fails cancels those that wait."""
    names = {pool.submit(_logged, name, job): name for name, job in jobs.items()}
    try:
        for done, future in enumerate(as_completed(names), start=1):
            future.result()
            print(f"[{done}/{len(jobs)}] {names[future]}", file=sys.stderr, flush=True)
    except BaseException:
        for future in names:
            future.cancel()
        raise


def _prepare(task: Task) -> None:
    from bench.replicates import prepare

    prepare(task)


def _train_seed(task: Task, seed: int, methods: list[Method]) -> None:
    from bench.arms import train_arms
    from bench.replicates import replicate

    replicate(task, seed)
    train_arms(task, seed, methods)


def _logged(name: str, job: Callable[[], None]) -> None:
    """Run a job with its output in .scratch/bench/log."""
    from bench.replicates import WORK

    log = WORK / "log" / f"{name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as stream, redirect_stdout(stream), redirect_stderr(stream):
        job()


if __name__ == "__main__":
    command.run(main)
