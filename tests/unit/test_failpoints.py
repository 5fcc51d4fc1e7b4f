"""Where a crash test may kill a process, and that nothing else does."""

from collections import Counter

import pytest

from messaging import failpoints


class Killed(BaseException):
    """The process would have ended here."""


@pytest.fixture
def arm(monkeypatch):
    """Arm failpoints in this process; dying is raising."""

    def die(status):
        raise Killed(status)

    def do(specification):
        monkeypatch.setattr(failpoints, "armed", failpoints.read_failpoints(specification))
        monkeypatch.setattr(failpoints, "passed", Counter())

    monkeypatch.setattr("os._exit", die)
    return do


@pytest.mark.parametrize(
    ("specification", "armed"),
    [
        ("", {}),
        ("relay.published", {"relay.published": 1}),
        ("relay.published:", {"relay.published": 1}),
        ("relay.published:3", {"relay.published": 3}),
        ("a:3, b:1,c", {"a": 3, "b": 1, "c": 1}),
        (",a,,", {"a": 1}),
    ],
)
def test_a_specification_names_the_passing_at_which_to_die(specification, armed):
    assert failpoints.read_failpoints(specification) == armed


@pytest.mark.parametrize("specification", ["a:soon", "a:1.5", "a:1:2"])
def test_a_mistyped_specification_never_arms_nothing_in_silence(specification):
    with pytest.raises(ValueError, match="invalid literal"):
        failpoints.read_failpoints(specification)


def test_a_process_dies_at_the_named_passing_and_not_before(arm):
    arm("here:3")
    failpoints.failpoint("here")
    failpoints.failpoint("here")
    with pytest.raises(Killed) as death:
        failpoints.failpoint("here")
    assert death.value.args == (failpoints.EXIT_STATUS,)


def test_a_process_never_dies_where_nothing_is_armed(arm):
    arm("")
    failpoints.failpoint("here")
    arm("elsewhere")
    failpoints.failpoint("here")
