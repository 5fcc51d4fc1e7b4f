"""Why a request was refused. Each class's docstring is what the caller reads; nothing was done or stored."""

from typing import ClassVar


class Refused(Exception):
    """The request was refused. A kind of refusal with a `title` has a page of its own, behind its `code`."""

    code: ClassVar[str]
    status_code: ClassVar[int] = 400
    title: ClassVar[str] = ""
    retryable: ClassVar[bool] = False
    #: Whole seconds after which to try again, where that may help.
    retry_after: int = 1
    #: Every kind with a title, whichever room it is of.
    kinds: ClassVar[list[type["Refused"]]] = []

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.title:
            cls.kinds.append(cls)

    @property
    def detail(self) -> str:
        """One paragraph for the caller: what is wrong and how to mend it."""
        return in_one_line(self.__doc__)


def in_one_line(text: str | None) -> str:
    """A docstring as a sentence of an answer."""
    return " ".join((text or "").split())


class OneTimePasswordNeeded(Refused):
    """The password is right, and this person has a second factor: send its one-time password as `otp`."""

    code = "otp_required"
    status_code = 401
    title = "One-time password needed"


class OneTimePasswordWrong(Refused):
    """This one-time password is wrong, was used already, or came too soon after a wrong one: send the next one."""

    code = "otp_wrong"
    status_code = 401
    title = "One-time password not accepted"


class TooManyKeys(Refused):
    """A merchant has at most 50 API keys that work in each mode; revoke one that nobody uses any more."""

    code = "too_many_api_keys"
    status_code = 409
    title = "Too many API keys"
