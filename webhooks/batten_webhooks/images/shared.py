"""What many ask of a registry at once is asked for once, and not at once again where it failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from batten_webhooks.images.errors import Reason, RegistryError

# What went wrong is not tried again by everybody at once. A tag that was missing may be pushed.
FAILED_SECONDS: dict[Reason, float] = {
    "invalid": 10.0,
    "not-found": 5.0,
    "refused": 60.0,
    "unauthorized": 5.0,
}
FAILED_OTHERWISE = 1.0

K = TypeVar("K")
V = TypeVar("V")


class Shared(Generic[K, V]):
    """Whoever asks for what is being asked for already waits for the same answer.

    So many are `at_once` of one namespace; those of "", which is nobody's, are not counted.
    """

    def __init__(self, at_once: int = 1) -> None:
        self._at_once = at_once
        self._running: dict[K, asyncio.Task[V]] = {}
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def answer(
        self,
        key: K,
        work: Callable[[], Awaitable[V]],
        known: Callable[[], V | RegistryError | None],
        namespace: str,
    ) -> V:
        """Of work that begins when it is the namespace's turn, or was `known` by then."""
        if namespace and key not in self._running:
            turn = self._turns.setdefault(namespace, asyncio.Semaphore(self._at_once))
            await turn.acquire()
            found = known()
            if found is not None or key in self._running:
                turn.release()
            else:
                self.ask(key, work).add_done_callback(lambda _: turn.release())
            if isinstance(found, RegistryError):
                raise RegistryError(found.reason, str(found))
            if found is not None:
                return found
        return await asyncio.shield(self.ask(key, work))

    def ask(self, key: K, work: Callable[[], Awaitable[V]]) -> asyncio.Task[V]:
        """The task outlives everybody who gives up waiting for it."""
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = asyncio.ensure_future(_run(work))
            running.add_done_callback(lambda done: self._end(key, done))
        return running

    def _end(self, key: K, done: asyncio.Task[V]) -> None:
        del self._running[key]
        if not done.cancelled():
            done.exception()  # it was told to those who waited, if there were any

    async def close(self) -> None:
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _run(work: Callable[[], Awaitable[V]]) -> V:
    return await work()


async def within(answer: Awaitable[V], seconds: float) -> V:
    """Raises RegistryError where it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        raise RegistryError(
            "timeout", f"the registry has not answered in {seconds:.2g} s"
        ) from None


def failed_seconds(error: RegistryError) -> float:
    """For how long an error is the answer."""
    return FAILED_SECONDS.get(error.reason, FAILED_OTHERWISE)
