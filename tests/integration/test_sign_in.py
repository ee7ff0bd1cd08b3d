"""Tokens that end, keys that rotate, users who change: over real HTTP, with the configuration of docs/identity.md."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.company import (
    CONFIGURATION,
    Company,
    Server,
    bytes_of,
    environment,
    query,
    rows_of,
    token,
    wait_for,
    wait_for_rows,
    wait_for_scope,
)
from tests.integration.provider import Provider

from syncline import Replica
from syncline.errors import AuthError, OtherUserError, ReplicaError

PAGE = (Path(__file__).parents[2] / "docs" / "identity.md").read_text(encoding="utf-8")
LEEWAY = "leeway_seconds = 0.0\n"


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.close()


def with_provider(company: Company, provider: Provider) -> Server:
    """The [auth] of the page, with the provider of the test in its place; the company's scopes."""
    found = re.search(r"^\[auth\]\njwks_url.*?\n\n", PAGE, re.S | re.M)
    assert found
    auth = re.sub(r'jwks_url = ".*"', f'jwks_url = "{provider.url}"', found[0])
    text = re.sub(r"\[auth\]\nsecret = .*\n", auth + LEEWAY, CONFIGURATION)
    company.config.write_text(text, encoding="utf-8")
    return company.serve()


def note(path: Path, key: str, body: str = "written") -> None:
    query(path, "INSERT INTO notes VALUES(?, 'v-ada', ?)", (key, body))


def has_note(company: Company, key: str) -> bool:
    return company.execute("SELECT count(*) FROM notes WHERE id = ?", key) == [(1,)]


# ---------------------------------------------------------------- an identity provider
def test_a_nurse_signs_in_with_the_companys_provider_and_goes_on_when_its_keys_rotate(
    company: Company, provider: Provider
) -> None:
    """P2: a new key is read when the first token names it; what is signed with the withdrawn one is refused."""
    server = with_provider(company, provider)
    withdrawn = provider.token("ann")
    ann = Replica(company.folder / "ann.device.db", server.url, lambda: provider.token("ann"))
    company._replicas.append(ann)
    ann.sync()
    wait_for_scope(company, "ann", ann.path)
    asked = provider.asked
    wait_for(lambda: _rotated(provider, ann), "the rotated key is taken", 40)
    assert provider.asked > asked
    with Replica(company.folder / "old.device.db", server.url, withdrawn) as old, pytest.raises(AuthError) as refused:
        old.sync(timeout=20)
    assert refused.value.error_code == "token_invalid"


def _rotated(provider: Provider, replica: Replica) -> bool:
    """Asking again has a pause: junk may have used it up a moment ago."""
    if provider.published["kid"] == "key-1":
        provider.rotate()
    with contextlib.suppress(AuthError):
        replica.sync(timeout=20)
        return True
    return False


def test_nobody_is_signed_out_while_the_provider_is_down(company: Company, provider: Provider) -> None:
    """P2: known keys stay in use; before any was read the device waits, and is not told that it is signed out."""
    provider.is_down = True
    with_provider(company, provider)
    ann = Replica(company.folder / "ann.device.db", company.road.url, provider.token("ann"))
    company._replicas.append(ann)
    ann.start()
    wait_for(lambda: ann.status.state == "waiting", "Ann waits")
    provider.is_down = False
    wait_for(lambda: ann.status.state == "live", "Ann is live")
    provider.is_down = True
    note(ann.path, "n1")
    wait_for(lambda: has_note(company, "n1"), "her note")


@pytest.mark.parametrize(
    "claims",
    [{"iss": "https://evil.example.org/"}, {"aud": "payroll"}, {"exp": 1}],
    ids=["issuer", "audience", "ended"],
)
def test_a_token_of_the_provider_for_something_else_gets_nothing(
    claims: dict[str, str], company: Company, provider: Provider
) -> None:
    """P8."""
    server = with_provider(company, provider)
    other = provider.token("ann", **claims)  # type: ignore[arg-type]
    with Replica(company.folder / "ann.device.db", server.url, other) as ann, pytest.raises(AuthError) as refused:
        ann.sync(timeout=20)
    assert refused.value.status == 401
    assert b"Ada" not in bytes_of(ann.path)


# ---------------------------------------------------------------- a token that ends
def test_a_stream_whose_token_ends_goes_on_with_the_next_one(company: Company, provider: Provider) -> None:
    """P2, P8: the device asks its function anew; the app notices nothing."""
    with_provider(company, provider)
    issued: list[str] = []

    def get_token() -> str:
        issued.append(provider.token("ann", seconds=2 if len(issued) < 3 else 3600))
        return issued[-1]

    ann = Replica(company.folder / "ann.device.db", company.road.url, get_token)
    company._replicas.append(ann)
    states: list[str] = []
    ann.on("status", lambda status: states.append(status.state))
    ann.start()
    wait_for(lambda: ann.status.state == "live", "Ann is live")
    wait_for(lambda: "waiting" in states, "the stream ends with its token")
    wait_for(lambda: ann.status.state == "live" and len(issued) > 3, "Ann is live again")
    company.execute("UPDATE patients SET name = 'after' WHERE id = 'ada'")
    wait_for_rows(ann.path, "SELECT name FROM patients WHERE id = 'ada'", [("after",)])
    note(ann.path, "n1")
    wait_for(lambda: has_note(company, "n1"), "her note")
    assert "signed_out" not in states


def test_a_nurse_whose_token_has_ended_goes_on_working_and_loses_nothing(company: Company, provider: Provider) -> None:
    """P3, P8: signed out; news stays away, rows and pending work stay; a new token carries on."""
    with_provider(company, provider)
    path = company.folder / "ann.device.db"
    with Replica(path, company.road.url, provider.token("ann", seconds=6)) as ann:
        ann.start()
        wait_for(lambda: ann.status.last_synced_at, "a first sync")
        held = rows_of(path, ["patients", "visits", "notes"])
        wait_for(lambda: ann.status.state == "signed_out", "the token ends")
        company.execute("UPDATE patients SET name = 'secret' WHERE id = 'ada'")
        note(path, "n1")
        with pytest.raises(AuthError) as refused:
            ann.sync(timeout=20)
        assert refused.value.error_code == "token_expired"
        assert ann.status.pending == 1
        now = rows_of(path, ["patients", "visits", "notes"])
        assert now["patients"] == held["patients"] and len(now["notes"]) == len(held["notes"]) + 1
        assert b"secret" not in bytes_of(path)
    with Replica(path, company.road.url, provider.token("ann")) as ann:
        ann.sync()
        assert ann.status.pending == 0
    assert has_note(company, "n1")
    wait_for_scope(company, "ann", path)


def test_a_signed_out_device_goes_on_when_its_function_has_a_token_again(company: Company, provider: Provider) -> None:
    """P2: `connectivity_changed` and `sync` look at once."""
    with_provider(company, provider)
    now = [provider.token("ann", seconds=-5)]
    ann = Replica(company.folder / "ann.device.db", company.road.url, lambda: now[0])
    company._replicas.append(ann)
    ann.start()
    wait_for(lambda: ann.status.state == "signed_out", "Ann is signed out")
    now[0] = provider.token("ann")
    ann.connectivity_changed(online=True)
    wait_for(lambda: ann.status.state == "live", "Ann is live")


def test_a_long_poll_ends_with_its_token(company: Company, provider: Provider) -> None:
    """P8: where WebSockets are refused nothing new is told after the end, either."""
    server = with_provider(company, provider)
    import httpx

    from syncline.protocol import frames

    def ask(call: str, said: dict[str, object], badge: str) -> httpx.Response:
        body = frames.pack(frames.dump(said), frames.PLAIN)
        headers = {"Authorization": f"Bearer {badge}"}
        return httpx.post(f"{server.url}/v1/{call}", content=body, headers=headers, timeout=60)

    with Replica(company.folder / "ann.device.db", server.url, provider.token("ann")) as ann:
        ann.sync()
        request = ann._open().download_request(wait=50)
    begun = time.monotonic()
    answer = ask("download", request, provider.token("ann", seconds=4))
    assert answer.status_code == 200
    reader = frames.FrameReader()
    (only,) = [frames.load(frames.unpack(packed)) for packed in reader.feed(answer.content)]
    assert only["t"] == "heartbeat"
    assert time.monotonic() - begun < 30


def test_the_app_of_the_page_syncs(company: Company) -> None:
    """Its code as it stands there, but for the address."""
    found = re.search(r"^```python\n(.*?)^```$", PAGE, re.S | re.M)
    assert found
    script = company.folder / "app.py"
    script.write_text(found[1].replace("http://127.0.0.1:8787", company.serve().url), encoding="utf-8")
    (company.folder / "ann.token").write_text(token("ann"), encoding="utf-8")
    subprocess.run([sys.executable, script], cwd=company.folder, env=environment(), check=True, timeout=60)
    wait_for_scope(company, "ann", company.folder / "ann.db")


# ---------------------------------------------------------------- whose file
def test_a_colleague_who_takes_over_the_phone_wipes_it_first_and_not_while_work_is_pending(company: Company) -> None:
    """P4, P8: until then neither sees the other's."""
    server = company.serve()
    path = company.folder / "phone.device.db"
    with Replica(path, server.url, token("ann")) as ann:
        ann.sync()
        note(path, "n1", "of Ann")
    with Replica(path, server.url, token("ben")) as ben:
        with pytest.raises(OtherUserError):
            ben.sync(timeout=20)
        assert ben.status.pending == 1
    with pytest.raises(ReplicaError) as refused:
        Replica(path, server.url, token("ben"), replace_user=True)
    assert refused.value.error_code == "pending_changes"
    assert not has_note(company, "n1")
    with Replica(path, server.url, token("ann")) as ann:
        ann.sync()
    assert has_note(company, "n1")
    with Replica(path, server.url, token("ben"), replace_user=True) as ben:
        assert b"Ada" not in bytes_of(path) and b"of Ann" not in bytes_of(path)
        ben.sync()
        note_of_ben = rows_of(path, ["notes"])["notes"]
    assert note_of_ben == company.scope_of("ben")["notes"]
    wait_for_scope(company, "ben", path)


def test_two_phones_from_one_copied_file_live_side_by_side(company: Company) -> None:
    """P3, P5: both connected, both writing at once; everything arrives once, under two ids."""
    company.serve()
    with Replica(company.folder / "ann.device.db", company.road.url, token("ann")) as ann:
        ann.sync()
        query(ann.path, "UPDATE visits SET n = n + 1 WHERE id = 'v-ada'")
    twin_path = company.folder / "twin.device.db"
    twin_path.write_bytes(ann.path.read_bytes())
    phones = [company.device("ann"), company.device("ann", "twin")]
    for phone in phones:
        phone.start()
    for step in range(5):
        for place, phone in enumerate(phones):
            query(phone.path, "UPDATE visits SET n = n + 10 WHERE id = 'v-ada'")
            note(phone.path, f"n-{place}-{step}")
    wait_for(lambda: all(phone.status.pending == 0 for phone in phones), "everything is delivered")
    assert company.execute("SELECT n FROM visits WHERE id = 'v-ada'") == [(101,)]
    assert company.execute("SELECT count(*), sum(added) FROM audit WHERE visit_id = 'v-ada'")[0][1] == 101
    for phone in phones:
        wait_for_scope(company, "ann", phone.path)
        assert phone.rejections() == []
    names = {query(phone.path, "SELECT device FROM syncline_state")[0][0] for phone in phones}
    assert len(names) == 2


def test_a_phone_restored_while_it_was_connected_for_long_delivers_what_it_writes_then(company: Company) -> None:
    """P3, P5: the backup was made in the middle of a session, with the newest nonce."""
    company.serve()
    with Replica(company.folder / "ann.device.db", company.road.url, token("ann")) as ann:
        ann.sync()
    ann = company.live("ann")
    path = ann.path
    backup = company.folder / "backup.db"
    query(path, f"VACUUM INTO '{backup}'")
    for number in range(3):
        note(path, f"before-{number}")
    wait_for(lambda: ann.status.pending == 0, "everything is delivered")
    ann.stop()
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        name.unlink(missing_ok=True)
    path.write_bytes(backup.read_bytes())
    note(path, "after")
    with Replica(path, company.road.url, token("ann")) as restored:
        report = restored.sync()
        assert report.pending == 0
    assert has_note(company, "after")
    wait_for_scope(company, "ann", path)
