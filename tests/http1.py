"""HTTP/1.1 by hand, from the provider's side, so that a fault is exactly the fault that the script says."""

import asyncio
import socket
import struct
from typing import Any, Awaitable, Callable

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 429: "Too Many Requests"}
# No request of a test is larger: Envoy's own limit is 32 MiB.
LARGEST_BODY = 64 << 20

# Method, path, headers.
Head = tuple[str, str, list[tuple[str, str]]]


class Http1:
    """One connection, which carries one exchange after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.reader, self.writer, self.ahead = reader, writer, b""
        self.framing, self.owed = "chunked", 0

    async def serve(self, handle: Callable[[Any, Head, bytes], Awaitable[bool]]) -> None:
        while (head := await self.read_head()) is not None:
            if not await handle(self, head, await self.read_body(head[2])):
                break

    async def read_head(self) -> Head | None:
        ahead, self.ahead = self.ahead, b""
        try:
            text = (ahead + await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = text.rstrip("\r\n").split("\r\n")
        method, path, _ = first.split(" ", 2)
        pairs = [line.split(":", 1) for line in lines]
        return method, path, [(name.strip().lower(), value.strip()) for name, value in pairs]

    async def read_body(self, headers: list[tuple[str, str]]) -> bytes:
        fields = dict(headers)
        if "chunked" not in fields.get("transfer-encoding", ""):
            return await self.reader.readexactly(min(int(fields.get("content-length", 0)), LARGEST_BODY))
        body = bytearray()
        while size := int((await self.reader.readline()).split(b";")[0], 16):
            body += await self.reader.readexactly(min(size, LARGEST_BODY))
            await self.reader.readexactly(2)
        while (await self.reader.readline()).strip():
            pass
        return bytes(body)

    # ---- one answer ----

    async def head(self, status: int, headers: dict[str, str], framing: str) -> None:
        """`framing`: chunked, length (the headers say which) or close (the body ends with the connection)."""
        self.framing, self.owed = framing, int(headers.get("content-length", 0))
        if framing != "length":
            headers = headers | ({"transfer-encoding": "chunked"} if framing == "chunked" else {"connection": "close"})
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", *(f"{name}: {value}" for name, value in headers.items())]
        await self.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def piece(self, data: bytes) -> None:
        self.owed -= len(data)
        await self.write(b"%x\r\n%b\r\n" % (len(data), data) if self.framing == "chunked" else data)

    async def end(self) -> bool:
        """The end as the framing tells it; `False`: no other exchange may follow."""
        if self.framing == "chunked":
            await self.write(b"0\r\n\r\n")
        # A length that promises more than there is ends the connection early.
        return self.framing == "chunked" or (self.framing == "length" and self.owed == 0)

    async def watch(self) -> None:
        """Returns when the peer hangs up."""
        while data := await self.reader.read(1):
            self.ahead += data

    def close(self) -> None:
        """Nothing to do: a connection whose exchange broke off is closed anyway."""

    def reset(self) -> None:
        """An RST instead of a FIN: closing with a linger time of 0."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
