"""All planted bugs in one table: what is broken, in which world it is looked for, and what makes its circumstances
frequent there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
from tests.simulation import planted
from tests.simulation.planted_in_acts import PLANTED, Plant

from syncline.testing.simulation import acts, day_scripts, days
from syncline.testing.simulation.company import Temper
from syncline.testing.simulation.history import play_script
from syncline.testing.simulation.oracle import BrokenPromiseError
from syncline.testing.simulation.script import Script

DAY_STEPS = 25
"""Of a day that is about one bug."""


@dataclass(frozen=True)
class Profile:
    """What is drawn more or less often than usual; `page_rows`: how many rows a page has; `temper`: what kind of company it is; else both are
    drawn."""

    often: Mapping[str, float] = field(default_factory=dict)
    faults: Mapping[str, float] = field(default_factory=dict)
    page_rows: int | None = None
    temper: Temper | None = None


@dataclass(frozen=True)
class Bug:
    """`first`: a seed of its own profile that finds it, so that the tests need not look for long. `day`: the workload
    of its profile, or "" for the world of acts."""

    plant: Callable[[pytest.MonkeyPatch], None]
    profile: Profile = Profile()
    first: int = 0
    day: str = ""

    def script(self, seed: int, *, is_focused: bool) -> Script:
        """Of its own profile, or of the general one."""
        if not is_focused:
            return day_scripts.draw("general", seed) if self.day else acts.draw(acts.WORKLOAD, seed)
        often = self.profile.often
        drawn = (
            day_scripts.draw(self.day, seed, DAY_STEPS, often)
            if self.day
            else acts.draw(acts.WORKLOAD, seed, acts.STEPS, often)
        )
        return replace(drawn, faults={**drawn.faults, **self.profile.faults})

    def found_by(self, seed: int, folder: Path, *, is_focused: bool = True) -> BrokenPromiseError | None:
        """What a checker says of that history; None where it finds nothing. The bug is planted already."""
        script = self.script(seed, is_focused=is_focused)
        try:
            if self.day:
                days.play(script, folder)
            else:
                profile = self.profile if is_focused else Profile()
                play_script(script, folder, page_rows=profile.page_rows, temper=profile.temper)
        except BrokenPromiseError as error:
            return error
        return None


# ---------------------------------------------------------------- profiles
_UNDISTURBED = dict.fromkeys(
    (
        *("migrate", "lose_capture", "prune", "wait", "skew", "skew_server", "clone", "restore", "restore_server"),
        *("reconfigure",),
    ),
    0.0,
)
"""Nothing happens that makes it doubtful who wrote last."""
LIVE = Profile(
    {"reassign": 8, "go_live": 20, "tell": 20, "listen": 20, "migrate": 0, "lose_capture": 0, "wait": 0, "prune": 0},
    page_rows=40,
)
DROPS = Profile({"reassign": 12, "download": 25, "office": 20, "checkpoint": 20}, page_rows=2)
DEATHS = Profile({"die": 3, "die_server": 3, "die_at_work": 40, "upload": 20, "migrate": 0, "restore_server": 0})
HALF_CHECKPOINTS = Profile(
    {
        **_UNDISTURBED,
        "die": 0,
        "die_server": 0,
        "die_at_work": 50,
        "checkpoint": 1,
        "upload": 25,
        "app": 25,
        "download": 40,
        "office": 15,
        "reassign": 0,
        "go_live": 0,
        "hello": 0,
    },
    page_rows=40,
)
COPIES = Profile({"back_up": 3, "restore": 3, "clone": 3, "app": 24, "upload": 20, "hello": 5})
LOST_TIMES = Profile({"back_up_server": 6, "restore_server": 6, "app": 30, "upload": 30, "hello": 0.5, "clone": 0})
RIVALS = Profile({**_UNDISTURBED, "app": 40, "office": 40, "reassign": 0, "go_live": 0})
ALIKE = Profile(
    {**_UNDISTURBED, "app": 60, "office": 2, "upload": 20, "download": 5, "reassign": 0, "go_live": 0},
    temper=Temper(is_dispute=True, alike=0.9),
)
COUNTS = Profile({**_UNDISTURBED, "app": 60, "office": 0, "reassign": 0, "go_live": 0})
PENDING = Profile({**_UNDISTURBED, "app": 40, "office": 20, "upload": 6, "download": 25, "checkpoint": 20})
MIGRATIONS = Profile({"migrate": 5, "migrate_on": 10, "office": 15, "download": 25, "checkpoint": 20}, page_rows=2)
UNSEEN = Profile({"lose_capture": 10, "migrate": 0, "migrate_on": 10, "office": 15, "download": 30, "checkpoint": 25})
PRUNES = Profile({"prune": 6, "office": 15, "checkpoint": 20, "download": 25})
REASSIGNS = Profile({"reassign": 14, "download": 25, "checkpoint": 20})
REPEATS = Profile({"download": 25, "checkpoint": 20}, {"double": 0.5, "reorder": 1.0})

PROFILES: dict[str, tuple[Profile, int]] = {
    "a downloaded row overwrites pending columns": (PENDING, 0),
    "the server does not touch what it refused or did not take": (PENDING, 2),
    "the last frames of a paged download are applied before what was staged": (Profile(), 1),
    "what was staged of a bucket that was lost stays in the file": (Profile(), 1),
    "a page goes on one row too late": (Profile(), 0),
    "a token is kept without its page": (Profile(), 0),
    "marked groups are taken apart": (Profile(), 0),
    "a paged download goes on although a table was raised": (MIGRATIONS, 22),
    "only the changed table is sent anew, not those whose paths run through it": (UNSEEN, 7),
    "cursors behind the horizon are taken": (PRUNES, 10),
    "the fan-out goes on telling one who has lost the bucket": (LIVE, 0),
    "a cut that only drops moves the cursor": (DROPS, 6),
    "a cut is applied statement by statement": (DEATHS, 6),
    "a checkpoint is written statement by statement, the head first": (HALF_CHECKPOINTS, 13),
    "changes leave the log before their checkpoint is written": (DEATHS, 10),
    "an upload's effect is committed apart from its number": (DEATHS, 1),
    "whoever arrives last wins": (RIVALS, 5),
    "what lost is not recorded": (RIVALS, 0),
    "two copies of a file are one device": (COPIES, 1),
    "a gap in the numbers is not noticed": (LOST_TIMES, 1),
    "a device's clock is believed": (RIVALS, 5),
    "who finds what he saw wins": (RIVALS, 7),
    "an equal value raises no stamp": (ALIKE, 11),
    "what waits for a checkpoint has no stamp yet": (RIVALS, 5),
    "a count is set to what a device has": (COUNTS, 5),
    "a pending count is put back as a value": (PENDING, 5),
    "a cut for another state of the file is applied": (REPEATS, 6),
    "deleted rows stay in free pages": (REASSIGNS, 0),
    "the log keeps what has left the file": (REASSIGNS, 0),
}
"""Of bugs of the acts world: their profile, and the seed of it to begin with. The others need none."""

AWAY = {"crash": 0.0, "sleep": 0.0, "skew": 0.0, "kill_gateway": 0.0, "restart_gateway": 0.0}
"""Processes that begin anew would heal too much."""


def _replace(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, attribute, wrong in plant:
        monkeypatch.setattr(owner, attribute, wrong)


def _of_acts() -> dict[str, Bug]:
    found = {name: Bug(partial(_replace, plant)) for name, plant in PLANTED.items()}
    for name, (profile, first) in PROFILES.items():
        found[name] = replace(found[name], profile=profile, first=first)
    return found


_DAYS: dict[str, Bug] = {
    "no timer is set after a failure": Bug(planted.no_timer_after_a_failure, Profile({"partition": 20}), day="nurse"),
    "an upload whose answer is lost is never repeated": Bug(
        planted.an_upload_whose_answer_is_lost_is_never_repeated, Profile(AWAY, {"drop": 0.5}), day="nurse", first=3
    ),
    "a failed upload sets no timer": Bug(
        planted.a_failed_upload_sets_no_timer, Profile({"partition": 20}), day="nurse", first=9
    ),
    "what the operating system says of the network is believed for ever": Bug(
        planted.offline_is_believed_for_ever, Profile({"offline": 20, "flap": 10}), day="nurse", first=1
    ),
    "nobody who is connected is told": Bug(planted.nobody_who_is_connected_is_told, day="office"),
    "every hello gets another nonce": Bug(
        planted.every_hello_gets_another_nonce, Profile({"crash": 10}, {"duplicate": 0.5}), day="nurse"
    ),
}

BUGS: dict[str, Bug] = {**_of_acts(), **_DAYS}
