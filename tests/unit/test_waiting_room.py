"""The room in which threads wait: nobody stays too long, no place is lost, and no trouble ends the asking."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from payments.models import Payment
from payments.waiting import Guest, NoRoom, WaitingRoom

#: As good as for ever (s): no test takes this long unless it fails.
LONG = 30


class Ledger:
    """Stands in for the database; payments end when a test says so."""

    def __init__(self):
        self.ended = set()
        self.questions = []
        self.trouble = []
        self.asked = threading.Event()

    def ask(self, payment_ids):
        self.questions.append(set(payment_ids))
        self.asked.set()
        if self.trouble:
            raise self.trouble.pop()
        return [Payment(pk=payment_id) for payment_id in payment_ids if payment_id in self.ended]


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture
def room(ledger, settings):
    settings.WAITING_SLOTS = 2
    made = WaitingRoom(ledger.ask)
    made.linger = 0
    yield made
    made.close()
    if asker := made.asker:
        asker.join(LONG)


@pytest.fixture
def wait(room):
    """Wait in a thread of its own; returns the future once the place is taken."""
    with ThreadPoolExecutor(8) as pool:

        def do(payment_id, seconds=LONG):
            entered = threading.Event()
            enter = room.enter

            def enter_and_tell(given):
                guest = enter(given)
                entered.set()
                return guest

            room.enter = enter_and_tell
            future = pool.submit(room.wait, payment_id, seconds=seconds)
            assert entered.wait(LONG)
            room.enter = enter
            return future

        yield do
        room.close()


def test_who_waits_is_called_when_the_payment_ends_and_not_before(ledger, wait):
    one, two = uuid4(), uuid4()
    first, second = wait(one), wait(two)
    ledger.ended.add(two)
    assert second.result(LONG).pk == two
    assert not first.done()
    ledger.ended.add(one)
    assert first.result(LONG).pk == one


def test_all_who_wait_for_one_payment_are_called(ledger, wait):
    payment_id = uuid4()
    both = [wait(payment_id), wait(payment_id)]
    ledger.ended.add(payment_id)
    assert [future.result(LONG).pk for future in both] == [payment_id] * 2


def test_nobody_waits_longer_than_they_would(room):
    assert room.wait(uuid4(), seconds=0.01) is None
    assert room.guests == []


def test_nobody_waits_longer_than_they_would_while_a_question_hangs(ledger, settings):
    hanging = threading.Event()
    room = WaitingRoom(lambda _ids: hanging.wait(LONG) and [])
    room.linger = 0
    assert room.wait(uuid4(), seconds=0.01) is None
    assert not hanging.is_set()
    hanging.set()


def test_no_more_wait_than_may_and_a_place_is_given_back(room, ledger, wait):
    one, two, three = uuid4(), uuid4(), uuid4()
    first = wait(one)
    wait(two)
    with pytest.raises(NoRoom):
        room.wait(three, seconds=LONG)
    ledger.ended |= {one, three}
    assert first.result(LONG).pk == one
    assert room.wait(three, seconds=LONG).pk == three


def test_a_place_is_given_back_whatever_happens_in_it(room):
    class Interrupted(threading.Event):
        def wait(self, timeout=None):
            raise KeyboardInterrupt

    enter = room.enter

    def enter_and_be_interrupted(payment_id):
        guest = enter(payment_id)
        guest.called = Interrupted()
        return guest

    room.enter = enter_and_be_interrupted
    with pytest.raises(KeyboardInterrupt):
        room.wait(uuid4(), seconds=LONG)
    assert room.guests == []


@pytest.mark.parametrize("trouble", [OSError("gone"), ValueError("a defect"), MemoryError()])
def test_no_trouble_ends_the_asking(room, ledger, trouble):
    ledger.trouble = [trouble, trouble]
    payment_id = uuid4()
    ledger.ended.add(payment_id)
    assert room.wait(payment_id, seconds=LONG).pk == payment_id
    assert len(ledger.questions) == 3


def test_one_question_is_asked_for_all(room, ledger, wait):
    ids = {uuid4(), uuid4()}
    for payment_id in ids:
        wait(payment_id)
    room.ask_once()
    assert ledger.questions[-1] == ids


def test_nobody_asks_when_nobody_waits(room, ledger):
    room.wait(uuid4(), seconds=0.01)
    if asker := room.asker:
        asker.join(LONG)
    assert room.asker is None
    asked = len(ledger.questions)
    payment_id = uuid4()
    ledger.ended.add(payment_id)
    assert room.wait(payment_id, seconds=LONG).pk == payment_id
    assert len(ledger.questions) > asked


def test_a_thread_that_cannot_be_started_takes_no_place(room, monkeypatch):
    def fail(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(NoRoom):
            room.wait(uuid4(), seconds=LONG)
    assert room.guests == []
    assert room.wait(uuid4(), seconds=0.01) is None


def test_a_process_that_stops_keeps_nobody_waiting(room, wait):
    future = wait(uuid4())
    room.close()
    assert future.result(LONG) is None
    with pytest.raises(NoRoom):
        room.wait(uuid4(), seconds=LONG)


def test_who_comes_first_after_a_fork_is_not_left_without_anybody_to_ask(room, ledger, wait):
    """Threads do not survive a fork, but their objects do."""
    wait(uuid4())
    assert ledger.asked.wait(LONG)
    child = os.fork()
    if child == 0:
        payment_id = uuid4()
        ledger.ended.add(payment_id)
        ended = room.wait(payment_id, seconds=LONG)
        os._exit(0 if ended and ended.pk == payment_id else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_guest_is_itself_and_no_other_of_the_same_payment():
    payment_id = uuid4()
    assert Guest(payment_id) != Guest(payment_id)
