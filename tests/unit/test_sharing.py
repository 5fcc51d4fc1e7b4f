"""Questions that wait together are answered together: each gets its own answer, and nobody waits for ever."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from merchants.sharing import MOST, Sharing
from tests.system import eventually

#: Seconds that nothing in these tests takes, on any machine.
LONG = 60


class Gate:
    """Answers questions with their squares; the first list is held until the gate is opened."""

    def __init__(self):
        self.entered, self.opened = threading.Event(), threading.Event()
        self.lists, self.went_alone = [], []
        self.fault = None

    def together(self, questions):
        self.lists.append(list(questions))
        if len(self.lists) == 1:
            self.entered.set()
            assert self.opened.wait(LONG)
        if self.fault and len(self.lists) > 1:
            raise self.fault
        return [None if number % 10 == 3 else number**2 for number in questions]

    def alone(self, number):
        self.went_alone.append(number)
        if number % 10 == 3:
            raise LookupError(number)
        return number**2


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def sharing(gate):
    return Sharing(gate.together, gate.alone, patience=LONG)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(2 * MOST) as pool:
        yield pool


def gather(sharing, gate, pool, numbers):
    """One that leads and is held, and others that have gathered behind it."""
    first = pool.submit(sharing.ask, 0)
    assert gate.entered.wait(LONG)
    others = [pool.submit(sharing.ask, number) for number in numbers]
    await_gathered(sharing, len(others))
    return first, others


def await_gathered(sharing, number):
    def have_gathered():
        with sharing.lock:
            return len(sharing.waiting) == number

    eventually(have_gathered, within=10, what="they gather")


def is_idle(sharing):
    with sharing.lock:
        return sharing.leader is None and not sharing.waiting


def test_who_asks_alone_is_answered_at_once(sharing, gate):
    gate.opened.set()
    assert sharing.ask(2) == 4
    assert gate.lists == [[2]]
    assert is_idle(sharing)


def test_those_who_wait_share_one_list_and_each_gets_its_own_answer(sharing, gate, pool):
    first, others = gather(sharing, gate, pool, [1, 2, 4, 5])
    gate.opened.set()
    assert first.result(LONG) == 0
    assert [other.result(LONG) for other in others] == [1, 4, 16, 25]
    assert sorted(map(sorted, gate.lists)) == [[0], [1, 2, 4, 5]]
    assert gate.went_alone == []
    assert is_idle(sharing)


def test_an_exception_reaches_the_one_who_asked_and_no_other(sharing, gate, pool):
    _first, others = gather(sharing, gate, pool, [1, 3, 2, 13])
    gate.opened.set()
    assert [others[0].result(LONG), others[2].result(LONG)] == [1, 4]
    for number, other in ((3, others[1]), (13, others[3])):
        with pytest.raises(LookupError) as raised:
            other.result(LONG)
        assert raised.value.args == (number,)
    assert sorted(gate.went_alone) == [3, 13]


@pytest.mark.parametrize("fault", [RuntimeError("a defect"), ConnectionError("away")])
def test_a_list_that_fails_is_answered_one_by_one(sharing, gate, pool, fault):
    gate.fault = fault
    _first, others = gather(sharing, gate, pool, [1, 2, 4])
    gate.opened.set()
    assert [other.result(LONG) for other in others] == [1, 4, 16]
    assert sorted(gate.went_alone) == [1, 2, 4]
    assert is_idle(sharing)


def test_a_leader_that_is_ended_leaves_nobody_behind(sharing, gate, pool):
    gate.fault = SystemExit("the process is told to stop")
    _first, others = gather(sharing, gate, pool, [1, 2, 4])
    gate.opened.set()
    wait(others, LONG)
    ended = [other for other in others if other.exception()]
    assert [type(other.exception()) for other in ended] == [SystemExit]
    assert len(gate.went_alone) == 2
    assert is_idle(sharing)
    gate.fault = None
    assert sharing.ask(5) == 25


def test_nobody_waits_for_ever_for_a_leader_that_hangs(gate, pool):
    sharing = Sharing(gate.together, gate.alone, patience=0.01)
    first = pool.submit(sharing.ask, 0)
    assert gate.entered.wait(LONG)
    assert pool.submit(sharing.ask, 1).result(LONG) == 1
    gate.opened.set()
    assert first.result(LONG) == 0
    assert is_idle(sharing)


def test_only_the_first_waits_for_a_leader_that_hangs(gate, pool):
    """One broken connection would cost every request of its process the whole patience, for as long as it hangs."""
    sharing = Sharing(gate.together, gate.alone, patience=0.01)
    first = pool.submit(sharing.ask, 0)
    assert gate.entered.wait(LONG)
    assert pool.submit(sharing.ask, 1).result(LONG) == 1
    sharing.patience = LONG
    assert pool.submit(sharing.ask, 2).result(LONG) == 4
    assert gate.lists == [[0], [1], [2]]
    assert is_idle(sharing)
    gate.opened.set()
    assert first.result(LONG) == 0
    assert is_idle(sharing)


def test_a_list_is_never_longer_than_it_may_be(sharing, gate, pool):
    numbers = [10 * number for number in range(1, MOST + 30)]
    _first, others = gather(sharing, gate, pool, numbers)
    gate.opened.set()
    assert [other.result(LONG) for other in others] == [number**2 for number in numbers]
    assert max(map(len, gate.lists)) == MOST
    assert sum(map(len, gate.lists)) == 1 + len(numbers), "no question is asked twice"


def test_a_process_that_is_forked_under_load_answers_its_own(sharing, gate, pool):
    """Of the threads that led and waited in the parent, a child has none."""
    gather(sharing, gate, pool, [1, 2])
    with sharing.lock:
        child = os.fork()
        if child == 0:
            try:
                gate.opened.set()
                os._exit(0 if sharing.ask(4) == 16 and is_idle(sharing) else 1)
            finally:
                os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gate.opened.set()


def test_nothing_is_lost_or_mixed_up_under_load(pool):
    sharing = Sharing(lambda numbers: [number * 2 for number in numbers], lambda number: number * 2, patience=LONG)
    assert list(pool.map(sharing.ask, range(1, 5000))) == [number * 2 for number in range(1, 5000)]
    assert is_idle(sharing)
