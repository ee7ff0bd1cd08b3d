"""Days without end: what `make run` shows until ^C."""

from __future__ import annotations

import time
from typing import NoReturn

from examples.homecare.day import act_in_office, start_morning
from examples.homecare.demo import Demo
from examples.homecare.nurse import Nurse

NURSE_SECONDS = (1.5, 5.0)
OFFICE_SECONDS = (3.0, 8.0)
SIGNAL_LOST_SHARE = 0.12
SIGNAL_FOUND_SHARE = 0.22
SWITCHED_OFF_SHARE = 0.02
DISMISSED_SHARE = 0.5


def live_on(demo: Demo) -> NoReturn:
    """Everybody does something now and then, by chance; ends only by KeyboardInterrupt or an error."""
    start_morning(demo)
    demo.board.heading("every day")
    due = {who: _later(demo, NURSE_SECONDS) for who in range(len(demo.nurses))}
    office_due = _later(demo, OFFICE_SECONDS)
    while True:
        demo.pause(0.2)
        now = time.monotonic()
        for who, moment in due.items():
            if moment <= now:
                _live(demo, demo.nurses[who])
                due[who] = _later(demo, NURSE_SECONDS)
        if office_due <= now:
            act_in_office(demo)
            office_due = _later(demo, OFFICE_SECONDS)


def _later(demo: Demo, seconds: tuple[float, float]) -> float:
    return time.monotonic() + demo.random.uniform(*seconds) / demo.options.pace


def _live(demo: Demo, nurse: Nurse) -> None:
    chance = demo.random.random()
    if not nurse.is_on:
        nurse.say("switches the phone on again", "cyan")
        nurse.switch_on()
    elif not nurse.has_signal and chance < SIGNAL_FOUND_SHARE:
        nurse.find_signal()
    elif nurse.has_signal and chance < SIGNAL_LOST_SHARE:
        nurse.lose_signal()
    elif nurse.has_signal and chance > 1 - SWITCHED_OFF_SHARE:
        nurse.say("lets the battery run empty", "yellow")
        nurse.switch_off()
    elif nurse.status and nurse.status.rejected and demo.random.random() < DISMISSED_SHARE:
        nurse.dismiss_rejections()
    elif nurse.is_ready:
        nurse.act()
