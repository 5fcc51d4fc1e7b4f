"""Questions of one event loop that wait at the same time are answered together, by one thread, list after list.

While it answers a list the next one gathers: lists are as long as the load makes them, and who asks alone waits for
nobody. It is to an event loop what `merchants.sharing` is to threads.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, Generic, TypeVar

import structlog

from merchants.sharing import MOST

log = structlog.get_logger(__name__)

Q = TypeVar("Q")
A = TypeVar("A")

#: How long (s) a list may take: far above any that is well. Those who wait then get no answer, and as long as the list
#: still hangs nobody else begins to wait.
PATIENCE: Final = 5.0


class Place(Generic[Q, A]):
    """One question that waits, and where its answer goes."""

    __slots__ = ("answer", "question")

    def __init__(self, question: Q) -> None:
        self.question = question
        self.answer: asyncio.Future[A | None] = asyncio.get_running_loop().create_future()


class Lane(Generic[Q, A]):
    """Where the requests of a process meet.

    `together` answers several questions, in a thread that is always the same; None for each that it has no answer to.
    """

    def __init__(
        self, together: Callable[[Sequence[Q]], Sequence[A | None]], *, most: int = MOST, patience: float = PATIENCE
    ) -> None:
        self.together = together
        self.most = most
        self.patience = patience
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="lane")
        self.waiting: deque[Place[Q, A]] = deque()
        self.is_busy = False
        self.hangs = False

    async def ask(self, question: Q) -> A | None:
        """The answer; None where there is none, or not in time."""
        if self.hangs:
            return None
        place: Place[Q, A] = Place(question)
        self.waiting.append(place)
        if not self.is_busy:
            self.begin()
        return await place.answer

    def begin(self) -> None:
        """Have what has gathered answered."""
        loop = asyncio.get_running_loop()
        places = [self.waiting.popleft() for _ in range(min(len(self.waiting), self.most))]
        self.is_busy = True
        try:
            answers = loop.run_in_executor(self.thread, self.answers_to, [place.question for place in places])
        except RuntimeError:  # the system has no thread left
            self.is_busy = False
            self.send_off(places)
            return
        timer = loop.call_later(self.patience, self.give_up, places)
        answers.add_done_callback(partial(self.end, places, timer))

    def answers_to(self, questions: Sequence[Q]) -> Sequence[A | None]:
        """In its thread: one for each, whatever happens there. What is raised might never come to an event loop."""
        try:
            answers = self.together(questions)
            if len(answers) == len(questions):
                return answers
            error = "WrongLength"
        except BaseException as raised:  # noqa: BLE001  # they go another way, and meet it there
            error = type(raised).__name__
        log.info("shared_in_vain", error=error, questions=len(questions))
        return [None] * len(questions)

    def end(
        self,
        places: Sequence[Place[Q, A]],
        timer: asyncio.TimerHandle,
        answers: "asyncio.Future[Sequence[A | None]]",
    ) -> None:
        """Hand the answers out, and go on with who has come meanwhile."""
        timer.cancel()
        self.is_busy = self.hangs = False
        tell(places, answers.result())
        if self.waiting:
            self.begin()

    def give_up(self, places: Sequence[Place[Q, A]]) -> None:
        """Let those go who wait for a list that hangs."""
        self.hangs = True
        log.warning("lane_hangs", questions=len(places) + len(self.waiting))
        self.send_off(places)

    def send_off(self, places: Sequence[Place[Q, A]]) -> None:
        """Without an answer, and with them all who come after."""
        everybody = [*places, *self.waiting]
        self.waiting.clear()
        tell(everybody, [None] * len(everybody))


def tell(places: Sequence[Place[Q, A]], answers: Sequence[A | None]) -> None:
    """Each its own; who has gone away needs none."""
    for place, answer in zip(places, answers, strict=True):
        if not place.answer.done():
            place.answer.set_result(answer)
