"""One working day in phases: what `--once` runs. Each phase shows one promise; the evening proves them."""

from __future__ import annotations

from examples.homecare.demo import Demo, DemoError
from examples.homecare.nurse import Nurse
from examples.homecare.texts import counted

FIRST_SYNC_SECONDS_MAX = 30.0
RETURN_SECONDS_MAX = 20.0
AFTERNOON_ROUNDS = 12
OFFICE_SHARES = {
    "reschedule": 5,
    "summary": 3,
    "kilometres": 2,
    "dose": 3,
    "formulary": 1,
    "admit": 1,
    "reassign": 2,
}


def work_one_day(demo: Demo) -> None:
    """From the first sync to the last visit; afterwards every device is on and has a signal."""
    start_morning(demo)
    drive_with_signal(demo)
    away = lose_signals(demo)
    quarrel(demo, away)
    change_plans(demo, away)
    change_hands(demo, away)
    return_signals(demo, away)
    spend_afternoon(demo)
    finish_evening(demo)


def start_morning(demo: Demo) -> None:
    demo.board.heading("morning: every device syncs for the first time")
    for nurse in demo.nurses:
        if demo.office.choose_visit(nurse.key) is None:
            say_office(demo, demo.office.plan_visits(nurse.key))
        nurse.switch_on()
        demo.pause(0.3)
    if not demo.wait_until(lambda: all(n.is_ready for n in demo.nurses), FIRST_SYNC_SECONDS_MAX, "the first sync"):
        raise DemoError("Not every device finished its first sync.")
    for nurse in demo.nurses:
        nurse.look()
        nurse.say(f"has her {counted(nurse.patient_count, 'patient')}")


def drive_with_signal(demo: Demo) -> None:
    demo.board.heading("on the road, with a signal: changes cross as they are made")
    for step in (Nurse.set_out, Nurse.finish_visit):
        for nurse in demo.nurses:
            step(nurse)
            demo.pause(0.25)


def lose_signals(demo: Demo) -> list[Nurse]:
    """All but the last drive into the valley; she shows what reaches those who are online."""
    demo.board.heading("the valley: no signal, the work goes on")
    away = demo.nurses[:-1] or demo.nurses
    for nurse in away:
        nurse.lose_signal()
        demo.pause(0.2)
    for nurse in away:
        nurse.finish_visit()
        nurse.write_note()
        demo.pause(0.3)
    return away


def quarrel(demo: Demo, away: list[Nurse]) -> None:
    """The same column from both sides, once with the office later and once with the nurse; and kilometres, added."""
    demo.board.heading("conflicts: office and nurse change the same visits")
    first, second = away[0], away[1 % len(away)]
    visit = first.finish_visit()
    demo.pause(0.4)
    if visit:
        say_office(demo, demo.office.write_summary(visit.id))
        say_office(demo, demo.office.correct_kilometres(visit.id))
        demo.pause(0.4)
    disputed = demo.office.choose_visit(second.key)
    known = second.find_visit(disputed) if disputed else None
    if known:
        say_office(demo, demo.office.write_summary(known.id))
        demo.pause(0.4)
        second.finish_visit(known)
        say_office(demo, demo.office.reschedule(known.id))
    away[2 % len(away)].mistype_status()
    away[3 % len(away)].correct_formulary()
    demo.pause(0.4)


def change_plans(demo: Demo, away: list[Nurse]) -> None:
    demo.board.heading("meanwhile in the office")
    say_office(demo, demo.office.change_dose(away[0].key))
    say_office(demo, demo.office.change_formulary())
    for nurse in (away[0], demo.nurses[-1]):
        patient = demo.office.admit_patient(nurse.key)
        say_office(demo, f"admits {patient.name} for {nurse.name}")
        demo.pause(0.5)


def change_hands(demo: Demo, away: list[Nurse]) -> None:
    """Two patients go to a colleague: one of a nurse who has written about him offline, one of a nurse online."""
    demo.board.heading("patients change hands")
    loser, gainer = away[0], demo.colleague_of(away[0])
    for patient in demo.office.movable_patients(loser.key, gainer):
        visit = loser.find_visit_to(patient)
        if visit:
            loser.write_note(visit)
            reassign(demo, loser, gainer, patient)
            break
    demo.pause(0.5)
    last = demo.nurses[-1]
    reassign(demo, last, demo.colleague_of(last))
    demo.pause(0.6)


def return_signals(demo: Demo, away: list[Nurse]) -> None:
    demo.board.heading("back from the valley: everything crosses")
    for nurse in away:
        nurse.find_signal()
        demo.pause(0.5)
    demo.wait_until(lambda: all(n.is_quiet for n in demo.nurses), RETURN_SECONDS_MAX, "empty outboxes")
    demo.pause(0.5)


def spend_afternoon(demo: Demo) -> None:
    """A mixed hour: everybody works, the office too, somebody has no signal, and a telephone's battery dies."""
    demo.board.heading("afternoon: everything at once")
    tired = demo.random.choice(demo.nurses)
    for round_ in range(AFTERNOON_ROUNDS):
        nurse = demo.random.choice(demo.nurses)
        if round_ == 2:
            tired.write_note()
            tired.say("lets the battery run empty", "yellow")
            tired.switch_off()
        if round_ == 7:
            tired.say("finds the charger and switches the phone on", "cyan")
            tired.switch_on()
        if nurse.is_on:
            nurse.act()
        if round_ % 3 == 0:
            act_in_office(demo)
        demo.pause(0.35)


def finish_evening(demo: Demo) -> None:
    demo.board.heading("evening: everybody comes home")
    for nurse in demo.nurses:
        if not nurse.has_signal:
            nurse.find_signal()
    demo.wait_until(lambda: all(n.is_quiet for n in demo.nurses), RETURN_SECONDS_MAX, "empty outboxes")
    for nurse in demo.nurses:
        nurse.dismiss_rejections()
    demo.look()


def act_in_office(demo: Demo) -> None:
    """One thing that the office does, by chance."""
    office, random = demo.office, demo.random
    nurse = random.choice(demo.nurses)
    visit = office.choose_visit(nurse.key)
    if visit is None:
        say_office(demo, office.plan_visits(nurse.key))
        return
    kind = random.choices(tuple(OFFICE_SHARES), tuple(OFFICE_SHARES.values()))[0]
    if kind == "reassign":
        reassign(demo, nurse, demo.colleague_of(nurse))
    elif kind == "admit":
        say_office(demo, f"admits {office.admit_patient(nurse.key).name} for {nurse.name}")
    elif kind == "formulary":
        say_office(demo, office.change_formulary())
    elif kind == "dose":
        say_office(demo, office.change_dose(nurse.key))
    elif kind == "summary":
        say_office(demo, office.write_summary(visit))
    elif kind == "kilometres":
        say_office(demo, office.correct_kilometres(visit))
    else:
        say_office(demo, office.reschedule(visit))


def reassign(demo: Demo, loser: Nurse, gainer: str, patient: str | None = None) -> None:
    if loser.key == gainer:
        return
    moved = demo.office.reassign(loser.key, gainer, patient)
    if moved:
        say_office(demo, f"gives {moved.name} from {loser.name} to {demo.office.nurse_name(gainer)}", "bold")


def say_office(demo: Demo, what: str, style: str = "blue") -> None:
    demo.board.tell("office", what, style)
