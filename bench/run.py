"""The benchmark: `python -m bench.run [TASK...] [--seeds N] [--quick] [--json] [--write]`.

Runs the pipeline on every task of bench/tasks with N seeds, trains every method of bench/methods.yaml, and prints one
table a task. Everything finished is kept in .scratch/bench, so that a killed run goes on where it was, and a second one
only reads. --write puts tables and figure into docs/results.md.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout

from bench import outcomes
from bench.replicates import WORK
from bench.tasks import Method, Task, load_methods, load_tasks
from cpfd.errors import CpfdError

FIRST_SEED = 200
"""Seeds below are for development, or have been reported before: what is chosen on them is reported on others."""


def main() -> None:
    options = _options()
    try:
        tasks = load_tasks(options.tasks, quick=options.quick)
        methods = load_methods(quick=options.quick)
        if options.methods:
            methods = [method for method in methods if method.name in {"none", *options.methods.split(",")}]
        for task in [task for task in tasks if task.missing]:
            print(f"{task.name}: skipped, no real data at {task.missing} (CPFD_SHARED_DATA)", file=sys.stderr)
        tasks = [task for task in tasks if not task.missing]
        seeds = list(range(options.first_seed, options.first_seed + (1 if options.quick else options.seeds)))
        started = time.monotonic()
        _train(tasks, seeds, methods, options.processes)
        print(f"trained what was missing in {(time.monotonic() - started) / 60:.1f} min", file=sys.stderr)
        found = [outcomes.task_table(task, seeds, methods) for task in tasks]
        overall = outcomes.overall(found)
    except CpfdError as error:
        sys.exit(f"error: {error}")
    if options.json:
        print(json.dumps({"tasks": [each.as_json() for each in found], "overall": overall}, indent=2))
    else:
        print(outcomes.markdown(found, overall))
    if options.write:
        outcomes.write_page(found, overall)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="default: all of bench/tasks")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds, each with a split of its own")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, metavar="N", help="0 to 7 are for development")
    parser.add_argument("--methods", metavar="A,B", help="only these methods of bench/methods.yaml")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="seeds side by side, one thread each")
    parser.add_argument("--quick", action="store_true", help="small data, one seed: shows that all runs, nothing else")
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON")
    parser.add_argument("--write", action="store_true", help="write docs/results.md and its figure")
    return parser.parse_args()


def _train(tasks: list[Task], seeds: list[int], methods: list[Method], processes: int) -> None:
    """Data sets first, then seeds of all tasks, side by side; progress on standard error."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        bases = {task.base: task for task in tasks}
        _wait({f"{base}: data": pool.submit(_quietly, base, _prepare, task) for base, task in bases.items()})
        jobs = {
            f"{task.name}, seed {seed}": pool.submit(_quietly, f"{task.name}-{seed}", _seed, task, seed, methods)
            for seed in seeds
            for task in tasks
        }
        _wait(jobs)


def _wait(jobs: "dict[str, Future[None]]") -> None:
    try:
        for done, (name, job) in enumerate(jobs.items(), start=1):
            job.result()
            print(f"[{done}/{len(jobs)}] {name}", file=sys.stderr, flush=True)
    except BaseException:
        for job in jobs.values():
            job.cancel()
        raise


def _prepare(task: Task) -> None:
    from bench.replicates import prepare

    prepare(task)


def _seed(task: Task, seed: int, methods: list[Method]) -> None:
    from bench.arms import train_arms
    from bench.replicates import replicate

    replicate(task, seed)
    train_arms(task, seed, methods)


def _quietly(name: str, job: "object", *args: object) -> None:
    """Run a job with its output in .scratch/bench/log."""
    log = WORK / "log" / f"{name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as stream, redirect_stdout(stream), redirect_stderr(stream):
        job(*args)  # type: ignore[operator]


if __name__ == "__main__":
    main()
