"""What callbacks bring and tasks take: the inbox, room to send, and outcomes."""

from __future__ import annotations

import asyncio

import pytest

from evsvc.aio import MAX_WAITING
from evsvc.aio.inbox import Inbox, Room
from evsvc.aio.outcome import Outcome
from evsvc.core import StateError


def test_an_inbox_holds_its_sender_back_at_its_limit_and_not_before() -> None:
    log: list[str] = []
    inbox: Inbox[int] = Inbox(4, lambda: log.append("hold"), lambda: log.append("let go"))

    async def main() -> None:
        for number in range(3):
            inbox.put(number)
        assert log == []
        inbox.put(3)
        inbox.put(4)
        assert log == ["hold"]
        assert [await inbox.take() for _ in range(2)] == [0, 1]
        assert log == ["hold"]
        assert await inbox.take() == 2
        assert log == ["hold", "let go"]
        inbox.end()
        inbox.end(LookupError("too late"))
        assert inbox.ended
        assert [await inbox.take() for _ in range(2)] == [3, 4]
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await inbox.take()

    asyncio.run(main())


def test_an_inbox_is_for_one_task() -> None:
    inbox: Inbox[int] = Inbox(MAX_WAITING, lambda: None, lambda: None)

    async def main() -> int:
        waiting = asyncio.create_task(inbox.take())
        await asyncio.sleep(0)
        with pytest.raises(StateError, match="another task"):
            await inbox.take()
        inbox.put(7)
        return await waiting

    assert asyncio.run(main()) == 7


def test_a_limit_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="0"):
        Inbox(0, lambda: None, lambda: None)


def test_the_error_at_the_end_comes_behind_the_messages_again_and_again() -> None:
    inbox: Inbox[int] = Inbox(MAX_WAITING, lambda: None, lambda: None)

    async def main() -> int:
        waiting = asyncio.create_task(inbox.take())
        await asyncio.sleep(0)
        inbox.put(1)
        inbox.end(LookupError("no more"))
        for _ in range(2):
            first = await waiting
            with pytest.raises(LookupError, match="no more"):
                await inbox.take()
        return first

    assert asyncio.run(main()) == 1


def test_a_cancelled_task_takes_nothing_away() -> None:
    inbox: Inbox[int] = Inbox(MAX_WAITING, lambda: None, lambda: None)

    async def main() -> int:
        waiting = asyncio.create_task(inbox.take())
        await asyncio.sleep(0)
        inbox.put(7)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return await inbox.take()

    assert asyncio.run(main()) == 7


def test_room_wakes_all_who_wait_and_forgets_who_left() -> None:
    async def main() -> list[str]:
        room = Room()
        log: list[str] = []

        async def wait(name: str) -> None:
            await room.wait()
            log.append(name)

        tasks = [asyncio.create_task(wait(name)) for name in ("one", "two", "gone")]
        await asyncio.sleep(0)
        tasks.pop().cancel()
        await asyncio.sleep(0)
        assert log == []
        room.open()
        await asyncio.gather(*tasks)
        return sorted(log)

    assert asyncio.run(main()) == ["one", "two"]


def test_only_the_first_outcome_counts() -> None:
    async def main() -> int:
        outcome: Outcome[int] = Outcome()
        outcome.succeed(1)
        outcome.succeed(2)
        outcome.fail(LookupError("too late"))
        assert outcome.done
        return await outcome

    assert asyncio.run(main()) == 1


def test_one_who_waits_no_more_takes_nothing_from_the_others() -> None:
    async def wait(outcome: Outcome[int]) -> int:
        return await outcome

    async def main() -> int:
        outcome: Outcome[int] = Outcome()
        one, other = (asyncio.create_task(wait(outcome)) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        outcome.succeed(7)
        return await other

    assert asyncio.run(main()) == 7


def test_an_error_that_nobody_wants_is_not_complained_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        failed: Outcome[int] = Outcome()
        failed.fail(LookupError("unseen"))
        failed.drop()
        open_one: Outcome[int] = Outcome()
        open_one.drop()
        open_one.abandoned()

    asyncio.run(main())
    assert caplog.records == []


def test_what_comes_behind_the_end_of_the_loop_is_dropped() -> None:
    async def main() -> Outcome[int]:
        return Outcome()

    outcome = asyncio.run(main())
    outcome.succeed(7)
    outcome.abandoned()
    assert not outcome.done
