"""Requests at a fixed rate, whatever becomes of the earlier ones; each is counted.

    load.py HOST PORT NAME RATE FILE

Ends when its standard input does. On standard output it tells, as JSON, what failed;
into FILE it writes for each request when it was due (seconds, of the monotonic clock)
and after how many milliseconds its answer was complete, as pairs of doubles. A request
that goes out late counts from when it was due.

One in five comes over a fresh connection, the others over connections that are kept;
one in four is a POST, which nobody may send twice.
"""

import array
import asyncio
import contextlib
import json
import os
import sys
import time

PATIENCE = 30  # seconds for an answer
BODY = b"x" * 1024


class Connection(asyncio.Protocol):
    """One connection, with at most one request under way."""

    def __init__(self, idle, fresh):
        self.idle, self.fresh = idle, fresh
        self.waiting, self.buffer, self.transport = None, b"", None

    def connection_made(self, transport):
        self.transport = transport

    def send(self, request):
        self.buffer = b""
        self.waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.waiting

    def data_received(self, data):
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found or not self.waiting:
            return
        lines = head.lower().split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines[1:])
        if len(body) < int(headers.get(b"content-length", b"0")):
            return
        waiting, self.waiting = self.waiting, None
        if self.fresh or headers.get(b"connection") == b"close":
            self.transport.close()
        elif not self.transport.is_closing():
            self.idle.append(self)
        if not waiting.done():
            waiting.set_result((int(lines[0].split()[1]), body))

    def connection_lost(self, error):
        with contextlib.suppress(ValueError):
            self.idle.remove(self)
        if self.waiting and not self.waiting.done():
            self.waiting.set_exception(error or ConnectionError("closed without an answer"))


class Load:
    """All requests of one run."""

    def __init__(self, host, port, name, rate):
        self.address, self.name, self.rate = (host, int(port)), name, float(rate)
        # The longest idle is taken first: none of them is idle for long.
        self.idle, self.under_way = [], set()
        self.times, self.failures, self.late = array.array("d"), [], 0.0
        self.sent = 0

    def request(self, method, fresh):
        lines = [f"{method} /{self.sent} HTTP/1.1", f"Host: {self.name}"]
        if fresh:
            lines.append("Connection: close")
        if method == "POST":
            lines.append(f"Content-Length: {len(BODY)}")
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        return head + BODY if method == "POST" else head

    async def answer(self, request, fresh):
        connection = self.idle.pop(0) if self.idle and not fresh else None
        if connection is None:
            made = asyncio.get_running_loop().create_connection(
                lambda: Connection(self.idle, fresh), *self.address
            )
            _, connection = await made
        try:
            return await connection.send(request)
        except BaseException:
            connection.transport.abort()
            raise

    async def one(self, due, method, fresh):
        request, failed = self.request(method, fresh), None
        self.late = max(self.late, (time.monotonic() - due) * 1000)
        try:
            status, body = await asyncio.wait_for(self.answer(request, fresh), PATIENCE)
            if status != 200:
                failed = f"{status} {body[:200].decode(errors='replace')}"
        except (OSError, TimeoutError, asyncio.TimeoutError, ValueError) as error:
            failed = f"{type(error).__name__} {error}"
        took = (time.monotonic() - due) * 1000
        self.times.extend((due, took))
        if failed:
            how = "fresh" if fresh else "kept"
            self.failures.append({"at": due, "ms": took, "what": f"{method}, {how} connection: {failed}"})

    async def run(self, ended):
        due = time.monotonic()
        while not ended.is_set():
            while due <= time.monotonic():
                self.sent += 1
                method = "POST" if self.sent % 4 == 0 else "GET"
                task = asyncio.create_task(self.one(due, method, self.sent % 5 == 0))
                self.under_way.add(task)
                task.add_done_callback(self.under_way.discard)
                due += 1 / self.rate
            await asyncio.sleep(due - time.monotonic())
        await asyncio.gather(*self.under_way)


async def main(host, port, name, rate, path):
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    load = Load(host, port, name, rate)
    await load.run(ended)
    with open(path, "wb") as file:
        load.times.tofile(file)
    print(json.dumps({"requests": load.sent, "late": load.late, "failures": load.failures}))


if __name__ == "__main__":
    # It is to be the last that waits for a processor.
    with contextlib.suppress(OSError):
        os.nice(-10)
    asyncio.run(main(*sys.argv[1:]))
