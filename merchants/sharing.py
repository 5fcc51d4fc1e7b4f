"""Questions that wait at the same time are answered together: one statement in place of many, and nobody waits for it.

Whoever asks while nobody does, leads: it takes along what has gathered by then, and hands out the answers. While its
statement runs the next ones gather, and one of them leads after it. So a list is as long as the load makes it, and who
asks alone waits for nothing.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

import structlog

log = structlog.get_logger(__name__)

Q = TypeVar("Q")
A = TypeVar("A")

#: How many questions are answered together: what one more adds to a statement is little by then, and all wait for it.
MOST: Final = 100
#: How long (s) a question waits for its leader: far above any statement that is well, below a web server's own limit.
PATIENCE: Final = 5.0


class Place(Generic[Q, A]):
    """One question that waits. It is called with an answer, as the next leader, or with neither: it goes alone."""

    __slots__ = ("answer", "called", "leads", "question")

    def __init__(self, question: Q) -> None:
        self.question = question
        self.answer: A | None = None
        self.leads = False
        self.called = threading.Event()


class Sharing(Generic[Q, A]):
    """Where the threads of a process meet.

    `together` answers several questions at once: None for each that must go alone. `alone` answers one, and raises
    what is the matter with it. A question may come to `alone` after `together` has answered it: it must bear that.
    """

    def __init__(
        self,
        together: Callable[[Sequence[Q]], Sequence[A | None]],
        alone: Callable[[Q], A],
        *,
        patience: float = PATIENCE,
    ) -> None:
        self.together = together
        self.alone = alone
        self.patience = patience
        self.reset()
        everywhere.add(self)

    def reset(self) -> None:
        """As if nobody had ever asked: the threads of a forked process's parent are none of its own."""
        self.lock = threading.Lock()
        self.waiting: deque[Place[Q, A]] = deque()
        self.leader: Place[Q, A] | None = None

    def ask(self, question: Q) -> A:
        """The answer, alone or together with others'. Raises what `alone` raises for this question."""
        place: Place[Q, A] = Place(question)
        with self.lock:
            if self.leader is None:
                self.appoint(place)
            else:
                self.waiting.append(place)
        try:
            if place.leads or self.await_call(place):
                self.lead(place)
        finally:
            self.hand_over(place)
        return self.alone(question) if place.answer is None else place.answer

    def appoint(self, place: Place[Q, A]) -> None:
        """Make it the leader; the caller has the lock."""
        self.leader = place
        place.leads = True

    def await_call(self, place: Place[Q, A]) -> bool:
        """Wait until it is called, and no longer than that is likely; whether it leads then.

        Who still waits after that leads in the place of one that hangs: those who come later need not wait for it too.
        """
        try:
            place.called.wait(self.patience)
        finally:
            with self.lock:
                if place in self.waiting:
                    self.waiting.remove(place)
                    self.appoint(place)
        return place.leads

    def lead(self, place: Place[Q, A]) -> None:
        """Answer what has gathered, and one's own question. Those who get no answer are told so, whatever happens."""
        with self.lock:
            others = [self.waiting.popleft() for _ in range(min(len(self.waiting), MOST - 1))]
        try:
            answers = self.together([place.question, *(other.question for other in others)])
            for each, answer in zip((place, *others), answers, strict=True):
                each.answer = answer
        except Exception as error:  # noqa: BLE001  # each goes alone, and meets its own
            log.info("shared_in_vain", error=type(error).__name__, questions=1 + len(others))
        finally:
            for other in others:
                other.called.set()

    def hand_over(self, place: Place[Q, A]) -> None:
        """After the leader the next one leads, if there is one."""
        with self.lock:
            if self.leader is not place:
                return
            self.leader = None
            if self.waiting:
                self.appoint(heir := self.waiting.popleft())
                heir.called.set()


#: All of this process, for its children.
everywhere: Final[WeakSet[Sharing[Any, Any]]] = WeakSet()


def reset_all() -> None:
    """In a process that was just forked."""
    for sharing in everywhere:
        sharing.reset()


os.register_at_fork(after_in_child=reset_all)
