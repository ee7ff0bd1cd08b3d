"""`syncline simulate`"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncline.cli.options import Json
from syncline.cli.output import count, print_json, print_line, print_note
from syncline.cli.server_extra import server_extra
from syncline.errors import ConfigError

if TYPE_CHECKING:
    from syncline.testing.simulation.report import Report
    from syncline.testing.simulation.runner import Played

SHRUNK_MAX = 3
"""So many failures are shrunk; of the others the seed is told."""

Seeds = Annotated[int, typer.Option("--seeds", help="How many histories.", min=1, metavar="N")]
Workload = Annotated[str, typer.Option("--workload", help="What happens in them.", metavar="NAME")]
FirstSeed = Annotated[int, typer.Option("--first-seed", help="The seed of the first one.", min=0, metavar="SEED")]
Processes = Annotated[
    int | None, typer.Option("--processes", help="How many at once; else as many as processors.", min=1, metavar="N")
]
Play = Annotated[Path | None, typer.Option("--play", help="Play only this script, which --save wrote.", metavar="FILE")]
Save = Annotated[Path | None, typer.Option("--save", help="Write the shrunk scripts of failures here.", metavar="DIR")]


def simulate(
    seeds: Seeds = 100,
    workload: Workload = "anything",
    first_seed: FirstSeed = 0,
    processes: Processes = None,
    play: Play = None,
    save: Save = None,
    json: Json = False,
) -> None:
    """Break a whole installation on purpose, and see whether it keeps its promises.

    Plays histories of the real server and real replicas in virtual time, each drawn from a seed: messages are lost,
    processes die, disks are full. Exits 1 if a promise was broken, and tells the shortest story of how.
    """
    with server_extra():
        from syncline.testing.simulation import runner, workloads
    if workload not in workloads.names():
        known = ", ".join(workloads.names())
        raise ConfigError(f'There is no workload "{workload}".', hint=f"There are: {known}.", code="usage")
    if save is not None:
        _make(save)
    begun = time.monotonic()
    if play is None:
        parallel = min(processes or os.cpu_count() or 1, seeds)
        with _terminated_as_interrupted():
            total, failed = _gather(runner.play_seeds(workload, first_seed, seeds, parallel), seeds)
        asked = {"workload": workload, "first_seed": first_seed}
    else:
        script = _load(play)
        total, failed = _gather(iter([runner.play(script)]), 1)
        asked = {"workload": script.workload, "first_seed": script.seed}
    seconds = time.monotonic() - begun
    failures = [_failure(each, save, play, is_shrunk=at < SHRUNK_MAX) for at, each in enumerate(failed)]
    figures = {"seconds": round(seconds, 1), "seeds_per_second": round(total.histories / seconds, 2)}
    document = {**asked, "seeds": total.histories, "failed": len(failed), **figures, **total.as_dict()}
    if json:
        print_json({**document, "failures": failures})
    else:
        _print(document, failures)
    if failed:
        raise typer.Exit(1)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """The processes that play end with this one."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _make(folder: Path) -> None:
    """Now: when something has failed, it is too late to find out."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        said = f'Nothing can be saved in "{folder}": {error.strerror}.'
        raise ConfigError(said, hint="Name a folder with --save.", code="usage") from None


def _load(path: Path) -> Any:
    from syncline.testing.simulation.script import Script

    try:
        return Script.load(path)
    except OSError as error:
        said = f'"{path}" cannot be read: {error.strerror}.'
        raise ConfigError(said, hint="Name a script of --save.", code="usage") from None
    except ValueError:
        said = f'"{path}" is no script of a simulation.'
        raise ConfigError(said, hint="Name a script of --save.", code="usage") from None


def _gather(histories: Any, seeds: int) -> tuple[Report, list[Played]]:
    """What all did, and those that failed; progress where a person looks on."""
    from syncline.testing.simulation.report import nothing_yet

    failed: list[Played] = []
    total, begun = nothing_yet(), time.monotonic()
    try:
        for played in histories:
            total.add(played.report)
            if played.failure:
                failed.append(played)
            if sys.stderr.isatty():
                _show(total.histories, seeds, time.monotonic() - begun, len(failed))
    except KeyboardInterrupt:
        seen = ", ".join(str(each.script.seed) for each in failed)
        print_note(f"Stopped after {total.histories} of {seeds}; failed: {seen or 'none'}.")
        raise
    if sys.stderr.isatty():
        print_note("")
    return total, failed


def _show(played: int, seeds: int, seconds: float, failed: int) -> None:
    sys.stderr.write(f"\r{played} of {seeds} histories, {played / max(seconds, 1e-3):.1f} a second, {failed} failed ")
    sys.stderr.flush()


def _failure(played: Played, save: Path | None, play: Path | None, *, is_shrunk: bool) -> dict[str, Any]:
    """One that failed, for a person to read and play. `play`: the script that it came from, which is short already."""
    from syncline.testing.simulation import runner

    script = played.script
    if is_shrunk and play is None:
        print_note(f"Seed {script.seed} failed; looking for the shortest history that fails in the same way …")
        played = runner.shortest(played)
    assert played.failure is not None
    again = f"syncline simulate --workload {script.workload} --first-seed {script.seed} --seeds 1"
    if play is not None:
        again = f"syncline simulate --play {play}"
    elif save is not None:
        kept = save / f"{script.workload}-{script.seed}.json"
        played.script.save(kept)
        again = f"syncline simulate --play {kept}"
    return {
        "seed": script.seed,
        "promise": played.failure.checker,
        "differed": played.failure.differed,
        "steps": len(played.script.steps),
        "faults": dict(played.script.faults),
        "story": played.report.story,
        "again": again,
    }


def _print(document: dict[str, Any], failures: list[dict[str, Any]]) -> None:
    for failure in failures:
        print_line(f"Seed {failure['seed']} broke: {failure['promise']}")
        for line in failure["story"]:
            print_line(f"  · {line}")
        if failure["faults"]:
            faults = ", ".join(f"{name} {often:g}" for name, often in failure["faults"].items())
            print_line(f"  Faults of the network, and how often: {faults}")
        print_line(f"  {failure['differed']}")
        print_line(f"  Play it again: {failure['again']}")
        print_line()
    seeds, failed = document["seeds"], document["failed"]
    became = f"{failed} broke a promise" if failed else "whatever was looked at was kept"
    print_line(f"{count(seeds, 'history')} of {document['workload']}: {became}.".replace("historys", "histories"))
    print_line(
        f"{document['events']:,} events in {document['seconds']} s, {document['seeds_per_second']} seeds a second."
    )
    for name in ("operations", "faults", "crashes", "looks"):
        counted = ", ".join(f"{kind} {times:,}" for kind, times in document[name].items())
        print_line(f"{name.capitalize()}: {counted or 'none'}.")
    print_line(f"Trace: {document['trace']}")
