"""A new identity: the server does not know the device, or the file was restored or copied (docs/protocol.md).

The outbox is numbered afresh from 1 in its old order; where the server lost its last days, what was sent then comes
first. Ids stay, so that the server answers `duplicate` for what it has already.

Two copies of one file (a cloned phone, a restored backup) look alike to the server until both have used a number. From
then on they tell themselves apart: the server names the id of the last mutation that it has of the device, and the copy
that knows another one by that number asks for an identity of its own, before it believes that its change has arrived.
"""

from __future__ import annotations

from syncline.errors import ServerError
from syncline.replica.outbox import find_mutation
from syncline.replica.store import State, Store


class CopiedFileError(ServerError):
    """Another copy of this file has spoken for the device; `hello` gives this one an identity of its own."""

    code = "device_cloned"


def refuse_another_copy(store: Store, state: State, number: int, identity: bytes | None) -> None:
    """CopiedFileError if what the server has as this device's mutation `number` is not what this file knows by it.

    What an applied cut includes has been compared already. `identity` None: the server no longer knows the id.
    """
    if number <= state.included:
        return
    if number <= state.seq:
        mine = find_mutation(store, "", number) if identity is not None else None
        if mine is None or mine.mutation.id == identity:
            return
    raise CopiedFileError(
        f"The server has another change {number} of this device than this file.",
        hint="It was restored or copied: it gets an identity of its own and offers its changes again.",
    )


def forget_nonce(store: Store) -> None:
    """The next `hello` asks for a new identity."""
    store.connection.execute("UPDATE syncline_state SET nonce = NULL")


def renumber(store: Store, device: str, *, reoffer_sent: bool) -> None:
    """Inside the caller's write transaction. A cut that is under way was made for the old numbers: it will be thrown
    away, because the apply counter moves on."""
    db = store.connection
    state = store.state()
    db.execute("DELETE FROM temp.syncline_renumber")
    numbers: list[tuple[int, int]] = []
    if reoffer_sent:
        for table in store.tables.values():
            numbers += store.fetch(table, "sent_numbers")
    for table in store.outboxes:
        numbers += [(state.epoch, number) for (number,) in store.fetch(table, "outbox_numbers")]
    numbers.sort()
    db.executemany("INSERT INTO temp.syncline_renumber (epoch, seq) VALUES (?, ?)", numbers)
    for table in store.outboxes:
        store.run(table, "renumber", (state.epoch,))
    if reoffer_sent:
        for table in store.tables.values():
            store.run(table, "reoffer_sent")
            store.run(table, "empty_sent")
    for table in store.outboxes:
        store.run(table, "renumber_done")
    db.execute("DELETE FROM temp.syncline_renumber")
    # The server has no outcomes for the new identity, and restored rows may differ from ours without any entry.
    db.execute(
        "UPDATE syncline_state SET device = ?, seq = ?, included = 0, grp = 0, epoch = epoch + 1, "
        "apply_count = apply_count + 1, cursor = CASE WHEN ? THEN NULL ELSE cursor END",
        (device, len(numbers), reoffer_sent),
    )
