"""Why a request was refused. Each class's docstring is what the caller reads; nothing was done or stored."""

from typing import ClassVar


class Refused(Exception):
    """The request was refused. A kind of refusal with a `title` has a page of its own, behind its `code`."""

    code: ClassVar[str]
    status_code: ClassVar[int] = 400
    title: ClassVar[str] = ""
    retryable: ClassVar[bool] = False
    #: JSON Pointer (RFC 6901) to the member of the body that is at fault, where it is a single one.
    pointer: str = ""
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


class CredentialsDiffer(Refused):
    """`X-API-Key` and `Authorization` hold different credentials. Send one of the two, or the same key in both."""

    code = "credentials_differ"
    title = "Different credentials"


class TokenExpired(Refused):
    """This access token has expired: refresh it at `/api/v1/token/refresh`, or log in again."""

    code = "token_expired"
    status_code = 401
    title = "Access token expired"


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


class ApprovalDecided(Refused):
    """This has been decided already; nothing more was done. Look at it again: it says by whom, and what came of it."""

    code = "approval_decided"
    status_code = 409
    title = "Approval decided already"


class ApprovalExpired(Refused):
    """It was asked for more than a day ago, so nothing was done; whoever still wants it asks again."""

    code = "approval_expired"
    status_code = 409
    title = "Approval expired"


class ApprovalOutgrown(Refused):
    """What it is about has grown since it was asked for, so nothing was done; reject it, and have it asked for anew."""

    code = "approval_outgrown"
    status_code = 409
    title = "Approval outgrown"


class ApprovalOwn(Refused):
    """What one has asked for oneself, another person must decide; nothing was done. You can only withdraw it."""

    code = "approval_own"
    status_code = 403
    title = "Approval of one's own"


class ApprovalNotYours(Refused):
    """Only who has asked for something can withdraw it; nothing was done. You may be able to reject it."""

    code = "approval_not_yours"
    status_code = 403
    title = "Approval of somebody else"


class ApprovalForbidden(Refused):
    """To decide this takes the permission for approvals, and the one for what is asked for; nothing was done."""

    code = "approval_forbidden"
    status_code = 403
    title = "Approval not allowed"
