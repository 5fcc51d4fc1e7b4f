"""Questions of an event loop that wait together are answered together, and whatever happens nobody waits for ever."""

import asyncio
import threading

import pytest

from config.lane import Lane

DEADLINE = 60


class Thread:
    """Answers with squares; the first list is held until it is let go."""

    def __init__(self):
        self.entered, self.let_go = threading.Event(), threading.Event()
        self.lists, self.names = [], set()
        self.fault = None

    def together(self, questions):
        self.lists.append(list(questions))
        self.names.add(threading.current_thread().name)
        if len(self.lists) == 1:
            self.entered.set()
            assert self.let_go.wait(DEADLINE)
        if self.fault:
            raise self.fault
        return [None if number == 3 else number**2 for number in questions]


@pytest.fixture
def thread():
    thread = Thread()
    yield thread
    thread.let_go.set()


def run(scene):
    async def within():
        async with asyncio.timeout(DEADLINE):
            return await scene

    return asyncio.run(within())


async def gather_behind(lane, thread, numbers):
    """One whose list is held, and those who have come meanwhile."""
    first = asyncio.create_task(lane.ask(0))
    await asyncio.to_thread(thread.entered.wait, DEADLINE)
    others = [asyncio.create_task(lane.ask(number)) for number in numbers]
    await asyncio.sleep(0)
    assert len(lane.waiting) == len(others)
    return first, others


def test_who_comes_meanwhile_is_answered_in_lists_that_are_not_too_long(thread):
    async def scene():
        lane = Lane(thread.together, most=3)
        first, others = await gather_behind(lane, thread, range(1, 8))
        thread.let_go.set()
        return await asyncio.gather(first, *others)

    assert run(scene()) == [0, 1, 4, None, 16, 25, 36, 49]
    assert thread.lists == [[0], [1, 2, 3], [4, 5, 6], [7]]
    assert len(thread.names) == 1


def test_who_has_gone_away_takes_nobodys_answer(thread):
    async def scene():
        lane = Lane(thread.together)
        first, (gone, other) = await gather_behind(lane, thread, [1, 2])
        gone.cancel()
        first.cancel()
        thread.let_go.set()
        return await other, await lane.ask(5), lane.is_busy

    assert run(scene()) == (4, 25, False)


@pytest.mark.parametrize("fault", [LookupError(), StopIteration(), SystemExit()])
def test_a_list_that_fails_leaves_nobody_waiting_and_the_next_one_goes_well(thread, fault):
    async def scene():
        lane = Lane(thread.together)
        thread.fault = fault
        first, others = await gather_behind(lane, thread, [1, 2])
        thread.let_go.set()
        failed = await asyncio.gather(first, *others)
        thread.fault = None
        return failed, await lane.ask(4)

    assert run(scene()) == ([None] * 3, 16)


@pytest.mark.parametrize("answers", [[], [1], [1, 2, 3]])
def test_too_few_or_too_many_answers_are_none(answers):
    async def scene():
        lane = Lane(lambda questions: answers if len(questions) == 2 else [9])
        first = asyncio.create_task(lane.ask(0))
        others = [asyncio.create_task(lane.ask(number)) for number in (1, 2)]
        return await asyncio.gather(first, *others), await lane.ask(3)

    assert run(scene()) == ([9, None, None], 9)


def test_nobody_waits_for_a_list_that_hangs_and_all_do_again_when_it_has_ended(thread):
    async def scene():
        lane = Lane(thread.together, patience=0.01)
        first = asyncio.create_task(lane.ask(0))
        await asyncio.to_thread(thread.entered.wait, DEADLINE)
        other = lane.ask(1)  # on a busy machine it comes when the list is given up already
        given_up = await asyncio.gather(first, other), await lane.ask(2), len(thread.lists)
        lane.patience = DEADLINE
        thread.let_go.set()
        await asyncio.get_running_loop().run_in_executor(lane.thread, int)  # after what has hung
        return given_up, await lane.ask(4)

    assert run(scene()) == (([None, None], None, 1), 16)


def test_without_a_thread_nobody_waits(thread):
    async def scene():
        lane = Lane(thread.together, most=1)
        first, others = await gather_behind(lane, thread, [1, 2])
        lane.thread.shutdown(wait=False)  # what it does when none can be started
        thread.let_go.set()
        return await asyncio.gather(first, *others), await lane.ask(3)

    assert run(scene()) == ([0, None, None], None)
