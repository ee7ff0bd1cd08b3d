"""Messages: what is sent is what is read, and nothing that is sent breaks the reader."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.test_values import junk, values

from syncline.errors import ProtocolError
from syncline.protocol import frames
from syncline.protocol.messages import Download, Group, Hello, HelloAnswer, Mutation, Upload, UploadAnswer

QUICK = settings(deadline=None, max_examples=200)

names = st.text(max_size=20)
counts = st.integers(0, 2**53)
clocks = st.integers(-(2**62), 2**62)
optional_names = st.none() | names


@st.composite
def mutations(draw: st.DrawFn) -> Mutation:
    operation = draw(st.sampled_from("IUD"))
    pairs = st.tuples(st.none() if operation == "D" else values, st.none() if operation == "I" else values)
    key = tuple(draw(st.lists(values, min_size=1, max_size=3)))
    return Mutation(
        number=draw(st.integers(1, 2**53)),
        id=draw(st.binary(min_size=16, max_size=16)),
        table=draw(names),
        operation=operation,  # type: ignore[arg-type]
        key=key,
        key_columns=tuple(draw(st.lists(names, min_size=len(key), max_size=len(key)))),
        changes=draw(st.dictionaries(names, pairs, max_size=4)),
        wall_us=draw(clocks),
        seen_us=draw(counts),
        base=draw(counts),
        insert=draw(counts),
        included=draw(counts),
    )


groups = st.builds(Group, st.booleans(), st.lists(mutations(), min_size=1, max_size=3).map(tuple))
lists = st.lists(names, max_size=5).map(tuple)
programs = st.none() | st.dictionaries(names, st.none() | names, max_size=3)

everything: st.SearchStrategy[Any] = st.one_of(
    st.builds(
        Hello, counts, optional_names, optional_names, names, names, lists, clocks, optional_names,
        st.none() | counts, counts, optional_names,
    ),
    st.builds(
        HelloAnswer, counts, names, names, st.sampled_from(["known", "new"]), names, names, counts, counts, counts,
        counts, names, st.booleans(), programs, st.dictionaries(names, st.integers(), max_size=3),
    ),
    mutations(),
    st.builds(Upload, names, clocks, st.none() | clocks, st.lists(groups, max_size=3).map(tuple), counts),
    st.builds(UploadAnswer, counts, st.booleans()),
    st.builds(Download, names, optional_names, counts, counts, names, st.none() | lists, st.floats(0, 60)),
)  # fmt: skip


@QUICK
@given(everything)
def test_what_is_sent_is_what_is_read(message: Any) -> None:
    """P16."""
    loaded = type(message).load(frames.load(frames.dump(message.dump())))
    assert loaded == message
    assert repr(loaded) == repr(message)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything inside a JSON document."""
    steps = node.items() if type(node) is dict else enumerate(node) if type(node) is list else ()
    return [(*path, step) for step, _ in steps] + [
        found for step, inner in steps for found in places(inner, (*path, step))
    ]


def mutate(document: dict[str, Any], data: st.DataObject) -> None:
    """Replace, remove or double something somewhere."""
    *path, last = data.draw(st.sampled_from(places(document)))
    parent: Any = document
    for step in path:
        parent = parent[step]
    change = data.draw(st.sampled_from(["replace", "remove", "double"]))
    if change == "replace":
        parent[last] = data.draw(junk)
    elif change == "remove":
        del parent[last]
    elif type(parent) is list:
        parent.append(copy.deepcopy(parent[last]))


@settings(deadline=None, max_examples=600)
@given(everything, st.data())
def test_a_message_damaged_anywhere_is_refused_or_is_another_message(message: Any, data: st.DataObject) -> None:
    """P19."""
    document = copy.deepcopy(message.dump())
    for _ in range(data.draw(st.integers(1, 3))):
        if document:
            mutate(document, data)
    try:
        loaded = type(message).load(document)
    except ProtocolError:
        return
    assert repr(type(message).load(loaded.dump())) == repr(loaded)


@QUICK
@given(
    st.sampled_from([Hello, HelloAnswer, Mutation, Upload, UploadAnswer, Download]),
    st.dictionaries(
        st.sampled_from(["protocol", "device", "n", "id", "key", "columns", "new", "was", "groups", "limits", "wait"]),
        junk,
    ),
)
def test_noise_is_refused(kind: Any, document: dict[str, Any]) -> None:
    """P19."""
    try:
        kind.load(document)
    except ProtocolError:
        return
    raise AssertionError("noise passed for a message")
