"""`python -m bench.receiver PORT…`: takes webhooks and answers 204 at once."""

import asyncio
import sys

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All requests of one connection."""
    try:
        while head := (await reader.readuntil(b"\r\n\r\n")).lower():
            length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
            await reader.readexactly(length)
            writer.write(ANSWER)
    except (EOFError, OSError):
        writer.close()


async def main(ports: list[int]) -> None:
    """For ever."""
    servers = [await asyncio.start_server(take, "127.0.0.1", port) for port in ports]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main([int(port) for port in sys.argv[1:]]))
