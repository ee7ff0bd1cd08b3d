"""`AsyncReplica`: the replica for programs that run on an event loop.

Whatever touches the file or the network runs in a thread of its own, so the loop is never held up; what is cancelled is
broken off and waited for, so nothing is left running.
"""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from syncline.errors import ReplicaError
from syncline.replica import app_connection
from syncline.replica.api import EVENTS, Replica, SyncReport
from syncline.replica.goal import Goal
from syncline.replica.live_query import LiveQuery, Parameters, RowFactory
from syncline.replica.local import checked_path
from syncline.replica.receipt import Receipt
from syncline.replica.retry import Rejection
from syncline.replica.status import Status
from syncline.replica.transport import Token
from syncline.replica.verify_goal import VerifyGoal, VerifyReport
from syncline.values import Value

T = TypeVar("T")


async def in_thread(work: Callable[[], T], break_off: Callable[[], object] | None = None) -> T:
    """`work` in a thread of its own. If the caller is cancelled, `break_off` is called and `work` waited for.

    Not the loop's executor: its few threads would be taken by those who wait, and not be there for those waited for.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:
            error = caught
        try:
            loop.call_soon_threadsafe(finish, result, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass

    threading.Thread(target=run, name="syncline-async", daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        if break_off is not None:
            break_off()
        while not done.done():
            try:
                await asyncio.shield(done)
            except asyncio.CancelledError:
                continue
            except BaseException:
                break
        if not done.cancelled():
            done.exception()  # looked at: it is nobody's any more
        raise


class AsyncReplica:
    """Like `Replica`, with `await`. The file is opened, or made, by the first thing that needs it, or by `async with`.

    Callbacks of `on` run on the event loop; they may be coroutine functions.
    """

    def __init__(self, path: str | Path, url: str, token: Token, **options: Any) -> None:
        self.path = checked_path(path)
        self._make = lambda: Replica(path, url, token, **options)
        self._replica: Replica | None = None
        self._making = asyncio.Lock()
        self._writers: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._running: set[asyncio.Task[Any]] = set()
        self._callbacks: list[tuple[str, Callable[..., Any], asyncio.AbstractEventLoop]] = []
        self._prepare = options.get("prepare")

    async def _made(self) -> Replica:
        async with self._making:
            if self._replica is None:
                self._replica = await in_thread(self._make)
                for event, callback, loop in self._callbacks:
                    self._listen(event, callback, loop)
            return self._replica

    async def _call(self, work: Callable[[Replica], T]) -> T:
        replica = await self._made()
        return await in_thread(lambda: work(replica))

    async def __aenter__(self) -> AsyncReplica:
        await self._made()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    # ------------------------------------------------------------ the agent
    async def start(self) -> None:
        """Begins to stay in step, in a thread of its own."""
        await self._call(Replica.start)

    async def stop(self) -> None:
        """Ends the agent and all live queries."""
        if self._replica is not None:
            await in_thread(self._replica.stop)

    close = stop

    async def sync(self, timeout: float | None = 60.0) -> SyncReport:  # noqa: ASYNC109 - the same as Replica.sync
        """As `Replica.sync`; a cancelled one ends what it began."""
        replica, goal = await self._made(), Goal()
        return await in_thread(lambda: replica._sync(goal, timeout), goal.reached.set)

    async def verify(self, *, repair: bool = False, timeout: float | None = 600.0) -> VerifyReport:  # noqa: ASYNC109
        """As `Replica.verify`; a cancelled one ends what it began."""
        replica, goal = await self._made(), VerifyGoal(repair=repair)
        return await in_thread(lambda: replica._verify(goal, timeout), goal.reached.set)

    def connectivity_changed(self, online: bool | None = None, *, metered: bool | None = None) -> None:
        """As `Replica.connectivity_changed`; before the file was opened it says nothing."""
        if self._replica is not None:
            self._replica.connectivity_changed(online, metered=metered)

    def power_changed(self, *, low_battery: bool) -> None:
        """As `Replica.power_changed`; before the file was opened it says nothing."""
        if self._replica is not None:
            self._replica.power_changed(low_battery=low_battery)

    # ------------------------------------------------------------ the app's side
    def connect(self) -> sqlite3.Connection:
        """An ordinary sqlite3 connection, as it is: what takes long belongs into a thread."""
        return app_connection.connect(self.path, self._prepare)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[sqlite3.Connection]:
        """As `Replica.transaction`: waiting for the write lock, and the commit, hold nobody up."""
        task = asyncio.current_task()
        if task is not None and task in self._writers:
            raise ReplicaError(
                "A transaction of this task's is under way already, and would wait for itself.",
                hint="Use the connection of the outer block.",
                code="transaction_nested",
            )
        group = (await self._made())._unguarded_transaction()
        opened = await _entered(group)
        if task is not None:
            self._writers.add(task)
        try:
            yield opened
        except BaseException as error:
            caught = error
            if not await in_thread(lambda: group.__exit__(type(caught), caught, caught.__traceback__)):
                raise
        else:
            await in_thread(lambda: group.__exit__(None, None, None))
        finally:
            if task is not None:
                self._writers.discard(task)

    def watch(self, sql: str, parameters: Parameters = (), *, row_factory: RowFactory | None = None) -> AsyncWatch:
        """As `Replica.watch`, for `async for`; a query that cannot be run is told by the first row, or `async with`."""
        return AsyncWatch(self._made, sql, parameters, row_factory)

    async def new_key(self, table: str, column: str | None = None) -> Value:
        return await self._call(lambda replica: replica.new_key(table, column))

    # ------------------------------------------------------------ what it says
    @property
    def status(self) -> Coroutine[Any, Any, Status]:
        """`await replica.status`"""
        return self._call(lambda replica: replica.status)

    @property
    def receipt(self) -> Coroutine[Any, Any, Receipt | None]:
        """`await replica.receipt`"""
        return self._call(lambda replica: replica.receipt)

    async def rejections(self) -> list[dict[str, Any]]:
        return await self._call(Replica.rejections)

    async def dismiss(self, rejection: Rejection) -> bool:
        return await self._call(lambda replica: replica.dismiss(rejection))

    async def retry(
        self,
        rejection: Rejection,
        corrections: Mapping[str, Any] | None = None,
        *,
        within: sqlite3.Connection | None = None,
    ) -> None:
        await self._call(lambda replica: replica.retry(rejection, corrections, within=within))

    async def conflicts(self) -> list[dict[str, Any]]:
        return await self._call(Replica.conflicts)

    def on(self, event: str, callback: Callable[..., Any]) -> Callable[[], None]:
        """As `Replica.on`, from within the event loop, on which the callback is then called."""
        if event not in EVENTS:
            raise ValueError(f'There is no event "{event}"; there are {", ".join(EVENTS)}.')
        if not callable(callback):
            raise TypeError(f"A callback is a function, not {type(callback).__name__}.")
        entry = (event, callback, asyncio.get_running_loop())
        self._callbacks.append(entry)
        if self._replica is not None:
            self._listen(*entry)

        def take_off() -> None:
            if entry in self._callbacks:
                self._callbacks.remove(entry)

        return take_off

    def _listen(self, event: str, callback: Callable[..., Any], loop: asyncio.AbstractEventLoop) -> None:
        assert self._replica is not None

        def call(content: Any) -> None:
            if (event, callback, loop) not in self._callbacks:
                return
            result = callback(content)
            if inspect.iscoroutine(result):
                task = loop.create_task(result)
                self._running.add(task)
                task.add_done_callback(self._running.discard)

        def tell(content: Any) -> None:
            try:
                loop.call_soon_threadsafe(call, content)
            except RuntimeError:  # the loop is closed
                pass

        self._replica.on(event, tell)


async def _entered(group: Any) -> sqlite3.Connection:
    """Enters a context in a thread; one that was entered in vain, since the task was cancelled, is left again."""
    entered: list[sqlite3.Connection] = []
    try:
        await in_thread(lambda: entered.append(group.__enter__()))
    except asyncio.CancelledError as error:
        cancelled = error
        if entered:
            with_error = (type(cancelled), cancelled, cancelled.__traceback__)
            await in_thread(lambda: group.__exit__(*with_error))
        raise
    return entered[0]


class AsyncWatch(AsyncIterator[list[Any]]):
    """`async for rows in replica.watch(sql)`. Ends with `aclose`, its `async with` block, or `stop()`."""

    def __init__(
        self,
        made: Callable[[], Coroutine[Any, Any, Replica]],
        sql: str,
        parameters: Parameters,
        row_factory: RowFactory | None,
    ) -> None:
        self._made = made
        self._arguments = (sql, parameters, row_factory)
        self._query: LiveQuery | None = None
        self._replica: Replica | None = None
        self._due = asyncio.Event()
        self._turn = asyncio.Lock()
        self._closed = threading.Event()
        self._number = 0

    async def _open(self) -> LiveQuery:
        if self._query is None:
            replica = self._replica = await self._made()
            self._query = await in_thread(lambda: replica._watches.query(*self._arguments))
            self._number = replica._watches.poller.subscribe(_setter(self._due, asyncio.get_running_loop()))
            replica._watches.add(self)
        return self._query

    def __aiter__(self) -> AsyncWatch:
        return self

    async def __anext__(self) -> list[Any]:
        async with self._turn:
            query = await self._open() if not self._closed.is_set() else None
            while query is not None and not self._closed.is_set():
                self._due.clear()
                try:
                    rows = await in_thread(query.look, query.interrupt)
                except (ReplicaError, sqlite3.Error):
                    if self._closed.is_set():
                        break
                    self.close()
                    query.close()
                    raise
                if rows is not None:
                    return rows
                await self._due.wait()
            if query is not None:
                query.close()
            raise StopAsyncIteration

    def close(self) -> None:
        """Ends the iteration; from any thread."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._replica is None or self._query is None:
            return
        poller = self._replica._watches.poller
        poller.unsubscribe(self._number, last_call=True)
        self._query.interrupt()
        if not self._turn.locked():
            self._query.close()

    async def aclose(self) -> None:
        self.close()

    async def __aenter__(self) -> AsyncWatch:
        await self._open()
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            self.close()


def _setter(due: asyncio.Event, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """For the poller's thread: a closed loop waits for nothing."""

    def notify() -> None:
        try:
            loop.call_soon_threadsafe(due.set)
        except RuntimeError:
            pass

    return notify
