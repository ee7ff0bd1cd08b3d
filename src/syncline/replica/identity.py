"""A new identity: the server does not know the device, or the file was restored or copied (docs/protocol.md).

The outbox is numbered afresh from 1 in its old order; where the server lost its last days, what was sent then comes
first. Ids stay, so that the server answers `duplicate` for what it has already.
"""

from __future__ import annotations

from syncline.replica.store import Store


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
