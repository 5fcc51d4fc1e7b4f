"""What a replay of a selection would do now, before anybody decides: how many, what sum, which causes, and what not."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from django.db.models import Max, QuerySet

from messaging.judgements import OUTRUN, Judgement, Verdict, judge
from messaging.models import DeadLetter, Resolution
from messaging.selections import Selection

#: Letters, and so subjects, that are judged in one query.
JUDGED_AT_ONCE: Final = 1000
#: Columns that are judged and counted; never the body, which may have a megabyte.
JUDGED_BY: Final = ("cause", "actor", "queue", "payload", "subject", "body_size")


@dataclass(slots=True)
class Tally:
    """How many letters of one cause would go where."""

    cause: str
    actor: str
    queue: str
    goes: int = 0
    settled: int = 0
    blocked: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.goes + self.settled + self.blocked


@dataclass(slots=True)
class Preview:
    """What a replay of a selection would do now. `sums` are minor units by currency, each payment counted once;
    `at_stake` has besides what is blocked, and goes if it comes free before its turn.

    `in_hand`: letters that are left out, because a running resolution has them. `last`: the newest letter that there
    was, matching or not; what is decided on after this look goes no further (`up_to`).
    """

    tallies: list[Tally] = field(default_factory=list)
    sums: dict[str, int] = field(default_factory=dict)
    at_stake: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    in_hand: int = 0
    last: int = 0

    def count(self, verdict: Verdict) -> int:
        """Letters with this verdict."""
        return sum(getattr(tally, verdict.value) for tally in self.tallies)

    def count_money(self, judgement: Judgement) -> None:
        """Count what a letter would move."""
        for sums in [self.at_stake] + [self.sums] * (judgement.verdict == Verdict.GOES):
            sums[judgement.currency] = sums.get(judgement.currency, 0) + judgement.amount

    @property
    def total(self) -> int:
        """All letters."""
        return sum(tally.total for tally in self.tallies)


def preview(selection: Selection) -> Preview:
    """What a replay would do, without doing anything."""
    selection = replace(selection, up_to=newest(selection))
    made = Preview(in_hand=in_hand(selection), last=selection.up_to or 0)
    tallies: dict[tuple[str, str, str], Tally] = {}
    counted: set[str] = set()
    takers: dict[str, str] = {}
    for letters in in_chunks(selection.free()):
        judgements = judge(letters)
        for letter in letters:
            key = (letter.cause, letter.actor, letter.queue)
            tally = tallies.setdefault(key, Tally(*key))
            judgement = after_others(judgements[letter.pk], letter, takers)
            setattr(tally, judgement.verdict, getattr(tally, judgement.verdict) + 1)
            if judgement.note:
                made.notes[judgement.note] = made.notes.get(judgement.note, 0) + 1
            if judgement.currency and letter.subject not in counted:
                counted.add(letter.subject)
                made.count_money(judgement)
    made.tallies = sorted(tallies.values(), key=lambda tally: (-tally.total, tally.cause))
    return made


def after_others(judgement: Judgement, letter: DeadLetter, takers: dict[str, str]) -> Judgement:
    """The judgement on a letter once those before it have gone back; `takers`: what they take -> who has it then."""
    if judgement.verdict != Verdict.GOES or not judgement.takes:
        return judgement
    return judgement if takers.setdefault(judgement.takes, letter.subject) == letter.subject else OUTRUN


def newest(selection: Selection) -> int:
    """The id that no letter of this look exceeds, whether any matches or not."""
    last = DeadLetter.objects.aggregate(last=Max("pk"))["last"] or 0
    return last if selection.up_to is None else min(selection.up_to, last)


def in_hand(selection: Selection) -> int:
    """How many of the selected letters a running resolution has."""
    return selection.letters().filter(resolution__state=Resolution.State.RUNNING).count()


def in_chunks(letters: QuerySet[DeadLetter]) -> Iterator[list[DeadLetter]]:
    """The letters, so many at a time, with what is judged and counted of them."""
    last, judged = 0, letters.only(*JUDGED_BY).order_by("pk")
    while chunk := list(judged.filter(pk__gt=last)[:JUDGED_AT_ONCE]):
        yield chunk
        if len(chunk) < JUDGED_AT_ONCE:
            return
        last = chunk[-1].pk
