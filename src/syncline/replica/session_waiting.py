"""Steps of a session that begin a round, end it, or wait for another one: network, power, failures."""

from __future__ import annotations

from dataclasses import replace

from syncline import limits
from syncline.replica import session_pace as pace
from syncline.replica.session_state import NEVER, Do, Effect, Facts, Session, State, Step


def ignore(session: Session, facts: Facts) -> Step:
    """Nothing to do now."""
    return session, ()


def closing(session: Session) -> tuple[Effect, ...]:
    """Ends the stream, where there is one or may be one in a moment."""
    return (Effect(Do.CLOSE),) if session.stream or session.state is State.OPENING else ()


# ---------------------------------------------------------------- beginning
def greet(session: Session, facts: Facts) -> Step:
    """Begin anew with `hello`. Where WebSockets did not get through they are tried again after a while only."""
    effects = (*closing(session), Effect(Do.HELLO))
    if session.poll and session.poll_until <= facts.now:
        session = replace(session, poll=False, stream_failures=pace.STREAM_BLOCKED_MAX - 1)
    session = replace(session, state=State.GREETING, stream=False, caught_up=False, rests=0)
    return replace(session, is_signalled=False), effects


def begin(session: Session, facts: Facts) -> Step:
    """Start, unless there is no network or the app wants it later; a single round is begun all the same."""
    session = replace(session, attempts=0, asked=not session.live, poll=False, stream_failures=0)
    if session.live and session.offline:
        return go_offline(session, facts)
    return postpone(session, facts) if session.is_held else greet(session, facts)


def greet_asked(session: Session, facts: Facts) -> Step:
    """Somebody asked: begin anew now, whatever was waited for."""
    return greet(replace(session, asked=True), facts)


def try_again(session: Session, facts: Facts) -> Step:
    """The timer is over: begin anew, unless the app wants it later."""
    if session.is_held:
        return postpone(session, facts)
    return greet_signalled(session, facts) if session.is_signalled else greet(session, facts)


def try_anyway(session: Session, facts: Facts) -> Step:
    """The operating system may be wrong about the network: try."""
    return go_offline(session, facts) if session.is_held else greet(session, facts)


# ---------------------------------------------------------------- what the device says of itself
def go_offline(session: Session, facts: Facts) -> Step:
    """No network; look again now and then, since the operating system may be wrong."""
    timer = Effect(Do.TIMER, limits.BACKOFF_SECONDS_MAX * (0.5 + facts.jitter / 2))
    effects = (*closing(session), timer)
    return replace(session, state=State.OFFLINE, offline=True, stream=False, caught_up=False), effects


def come_online(session: Session, facts: Facts) -> Step:
    """There is a network, perhaps another one: begin anew at once; later where it came and went a moment ago, or where
    the server asked for time."""
    session = replace(session, offline=False)
    if session.is_held:
        return postpone(session, facts)
    if facts.now - session.signalled >= pace.SIGNALS_STABLE_SECONDS:
        session = replace(session, signals=0, attempts=0)
    due = max(session.signalled + pace.signal_seconds(session.signals), session.not_before)
    if due <= facts.now:
        return greet_signalled(session, facts)
    if session.state is State.WAITING and facts.now < session.due <= due:
        return session, ()
    effects = (*closing(session), Effect(Do.TIMER, due - facts.now))
    session = replace(session, state=State.WAITING, stream=False, caught_up=False, due=due, unreachable=False)
    return replace(session, is_signalled=True), effects


def greet_signalled(session: Session, facts: Facts) -> Step:
    """Begin anew because the network came back. Another one may let WebSockets through."""
    session = replace(session, signals=session.signals + 1, signalled=facts.now, poll=False, stream_failures=0)
    return greet(session, facts)


def note_online(session: Session, facts: Facts) -> Step:
    """There is a network: what is under way goes on, and if it fails all the same it was sent into the gap before."""
    return replace(session, offline=False, noted=facts.now), ()


def postpone(session: Session, facts: Facts) -> Step:
    """The app wants it later: end what is under way, unless somebody waits for it."""
    session = replace(session, postponed=True)
    if session.asked:
        return session, ()
    return replace(session, state=State.POSTPONED, stream=False, caught_up=False, unreachable=False), closing(session)


def note_postponed(session: Session, facts: Facts) -> Step:
    """The app wants it later; nothing is under way."""
    return replace(session, postponed=True), ()


def stay_postponed(session: Session, facts: Facts) -> Step:
    """Nothing, until the app says otherwise or asks."""
    return replace(session, caught_up=False), ()


def resume(session: Session, facts: Facts) -> Step:
    """The app wants it now: begin anew."""
    return come_online(replace(session, postponed=False), facts)


def note_resumed(session: Session, facts: Facts) -> Step:
    """The app wants it now; something else stands in the way, or it is under way already."""
    return replace(session, postponed=False), ()


# ---------------------------------------------------------------- failures
def wait(session: Session, facts: Facts) -> Step:
    """Set the timer: what the server asked for, or the next backoff."""
    attempts = session.attempts + 1
    seconds = pace.backoff_seconds(attempts, facts.jitter)
    if session.stream and not session.poll:
        seconds = max(seconds, pace.RECONNECT_SECONDS * facts.jitter)
    not_before = session.not_before
    if facts.retry_after is not None:
        seconds = max(pace.retry_seconds(facts.retry_after, facts.jitter), seconds)
        not_before = facts.now + seconds
    session = replace(session, attempts=attempts, unreachable=False, not_before=not_before, is_signalled=False)
    if session.is_held:
        return postpone(session, facts)
    effects = (*closing(session), Effect(Do.TIMER, seconds))
    return replace(session, state=State.WAITING, stream=False, caught_up=False, due=facts.now + seconds), effects


def wait_unreachable(session: Session, facts: Facts) -> Step:
    """The same, and nobody answered. What blocked WebSockets may have been a server that was going down."""
    session = note_stream_end(session, facts) if session.stream else replace(session, poll=False, stream_failures=0)
    if session.offline:
        return go_offline(session, facts)
    session, effects = wait(session, facts)
    if session.state is not State.WAITING:
        return session, effects
    session = replace(session, unreachable=True)
    if facts.now - session.noted > pace.NOTED_SECONDS:
        return session, effects
    session, sooner = come_online(replace(session, noted=NEVER), facts)
    return session, (*(each for each in effects if each.do is Do.CLOSE), *sooner) if sooner else effects


def note_stream_end(session: Session, facts: Facts) -> Session:
    """Counts WebSockets that do not last, or bring nothing, as through a proxy that cuts or holds them."""
    if session.poll:
        return session if session.heard else replace(session, poll=False, stream_failures=0)
    if session.heard and facts.now - session.opened >= pace.STREAM_SECONDS_MIN:
        return replace(session, stream_failures=0)
    session = replace(session, stream_failures=session.stream_failures + 1)
    return begin_polls(session, facts) if session.stream_failures >= pace.STREAM_SHORT_MAX else session


def begin_polls(session: Session, facts: Facts) -> Session:
    """Long polls stand in for a while."""
    return replace(session, poll=True, poll_until=facts.now + pace.POLL_SECONDS)


# ---------------------------------------------------------------- the end
def stop(session: Session, facts: Facts) -> Step:
    """End everything."""
    return Session(state=State.STOPPED, live=session.live), closing(session)


def sign_out(session: Session, facts: Facts) -> Step:
    """Nothing works until there is another token; look now and then whether there is."""
    effects = (*closing(session), Effect(Do.TIMER, pace.SIGNED_OUT_SECONDS))
    return replace(session, state=State.SIGNED_OUT, stream=False, caught_up=False, asked=False), effects


def wiped(session: Session, facts: Facts) -> Step:
    """The replica is deleted."""
    return replace(session, state=State.WIPED, stream=False, caught_up=False, asked=False), closing(session)
