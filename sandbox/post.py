"""One POST with a *total* deadline, and nothing but its status read."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

#: Seconds that a TLS connection may take to say goodbye.
GOODBYE: Final = 1.0


class NotTaken(Exception):
    """The receiver did not say 2xx in time."""


class TargetInvalid(ValueError):
    """The address cannot be posted to; the message says the mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to post to."""

    host: str
    port: int
    tls: bool
    authority: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """An address. Raises TargetInvalid."""
        try:
            url = urlsplit(text)
            port = url.port
        except ValueError:
            raise TargetInvalid("its host or port cannot be understood") from None
        if url.scheme not in {"http", "https"} or not url.hostname or "@" in url.netloc:
            raise TargetInvalid("it must be like http://host:port/path")
        if not text.isascii() or not text.isprintable() or " " in text:
            raise TargetInvalid("it must be of ASCII characters, percent-encoded where needed")
        tls = url.scheme == "https"
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        return cls(host=url.hostname, port=port or (443 if tls else 80), tls=tls, authority=url.netloc, path=path)


async def post(target: Target, *, headers: Mapping[str, str], body: bytes, timeout: float) -> None:  # noqa: ASYNC109
    """Post JSON, within `timeout` seconds in all.

    Raises:
        NotTaken: whatever happened, it was no 2xx.
    """
    try:
        async with asyncio.timeout(timeout):
            status = await exchange(target, headers, body)
    except TimeoutError:
        raise NotTaken(f"no answer within {timeout:g} s") from None
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        raise NotTaken(f"{type(error).__name__}: {error}"[:200]) from error
    if not 200 <= status < 300:
        raise NotTaken(f"HTTP {status}")


async def exchange(target: Target, headers: Mapping[str, str], body: bytes) -> int:
    """Send the request and read the head of its answer; redirects are not followed."""
    goodbye = GOODBYE if target.tls else None
    reader, writer = await asyncio.open_connection(
        target.host, target.port, ssl=target.tls or None, ssl_shutdown_timeout=goodbye
    )
    try:
        fixed = {
            "Host": target.authority,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
        lines = [f"POST {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in {**fixed, **headers}.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        version, status = head.split(maxsplit=2)[:2]
        if not version.startswith(b"HTTP/1."):
            raise ValueError("the answer is no HTTP")
        return int(status)
    finally:
        writer.transport.abort()
        # The transport is closed in the loop's next round.
        await asyncio.sleep(0)
