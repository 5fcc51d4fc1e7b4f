"""A TCP proxy that a test points to another server, or to none, while its clients keep their address."""

import asyncio
import contextlib
import threading

from deploy.local.machine import free_port


class TcpProxy:
    """Forward connections to a port of 127.0.0.1; `target` None refuses them."""

    def __init__(self, target: int | None) -> None:
        self.target = target
        self.port = free_port()
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._thread.start()

    def point_to(self, target: int | None) -> None:
        """Change the target and close all connections."""
        self.target = target
        asyncio.run_coroutine_threadsafe(self._close_connections(), self._loop).result(timeout=30)

    def cut(self) -> None:
        """Close all connections and refuse new ones."""
        self.point_to(None)

    def stop(self) -> None:
        """Close everything."""
        self.cut()
        self._server.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=30)
        self._loop.close()

    async def _close_connections(self) -> None:
        for task in (open_ := list(self._connections)):
            task.cancel()
        await asyncio.gather(*open_, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection in a task that `point_to` can cancel."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if (target := self.target) is not None:
                await self._connect(target, reader, writer)
        except (OSError, asyncio.CancelledError):  # either side is gone, or `point_to` closes the connection
            pass
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _connect(self, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", target)
        try:
            if target == self.target:  # else it was changed while this connected
                directions = (_copy(reader, server_writer), _copy(server_reader, writer))
                await asyncio.gather(*directions)
        finally:
            server_writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes until the sender ends; then the connection ends in both directions."""
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        await writer.drain()
    raise ConnectionResetError("the sender has closed the connection")
