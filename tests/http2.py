"""HTTP/2 from the provider's side: frames by `h2`, an exchange for each stream."""

import asyncio
from typing import Any, Awaitable, Callable

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from http1 import Head


class Http2:
    """One connection with many streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.reader, self.writer = reader, writer
        self.frames = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="latin-1"))
        self.streams: dict[int, Stream] = {}

    async def serve(self, handle: Callable[[Any, Head, bytes], Awaitable[bool]]) -> None:
        self.frames.initiate_connection()
        await self.flush()
        tasks: set[asyncio.Task] = set()
        try:
            while data := await self.reader.read(1 << 16):
                for event in self.frames.receive_data(data):
                    if ready := self.take(event):
                        task = asyncio.ensure_future(handle(ready, ready.request, bytes(ready.body)))
                        tasks.add(task)
                        task.add_done_callback(tasks.discard)
                await self.flush()
        finally:
            for stream in self.streams.values():
                stream.gone.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def take(self, event: h2.events.Event) -> "Stream | None":
        """A stream whose request is complete with this event."""
        match event:
            case h2.events.RequestReceived():
                self.streams[event.stream_id] = Stream(self, event.stream_id, list(event.headers))
            case h2.events.DataReceived():
                self.streams[event.stream_id].body += event.data
                self.frames.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                return self.streams[event.stream_id]
            case h2.events.StreamReset():
                self.streams[event.stream_id].gone.set()
            case h2.events.WindowUpdated():
                for stream in self.streams.values():
                    stream.window.set()
        return None

    async def flush(self) -> None:
        if data := self.frames.data_to_send():
            self.writer.write(data)
        await self.writer.drain()


class Stream:
    """One exchange, with the same words as `Http1`."""

    def __init__(self, connection: Http2, number: int, headers: list[tuple[str, str]]):
        self.connection, self.frames, self.number, self.body = connection, connection.frames, number, bytearray()
        self.gone, self.window = asyncio.Event(), asyncio.Event()
        named = dict(headers)
        plain = [(name, value) for name, value in headers if not name.startswith(":")]
        self.request: Head = (named[":method"], named[":path"], [("host", named[":authority"]), *plain])

    async def head(self, status: int, headers: dict[str, str], framing: str) -> None:
        """HTTP/2 has its own framing; of the others only a length is told."""
        await self.send(self.frames.send_headers, [(":status", str(status)), *headers.items()])

    async def piece(self, data: bytes) -> None:
        while data and not self.gone.is_set():
            size = min(self.frames.local_flow_control_window(self.number), self.frames.max_outbound_frame_size, len(data))
            if size == 0:
                self.window.clear()
                await self.window.wait()
                continue
            await self.send(self.frames.send_data, data[:size])
            data = data[size:]

    async def end(self) -> bool:
        await self.send(self.frames.end_stream)
        return True

    async def send(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(self.number, *arguments)
        except h2.exceptions.ProtocolError as gone:
            raise ConnectionResetError("the stream is gone") from gone
        await self.connection.flush()

    async def watch(self) -> None:
        await self.gone.wait()

    def close(self) -> None:
        """The whole connection, without a word."""
        self.connection.writer.close()

    def reset(self) -> None:
        self.frames.reset_stream(self.number, h2.errors.ErrorCodes.INTERNAL_ERROR)
        self.connection.writer.write(self.frames.data_to_send())
