"""Answers quickly, so that what is measured is not the app."""

import asyncio
import os

SAID = "release one"


class Web(asyncio.Protocol):
    """Requests with a body of known length, one after the other."""

    def connection_made(self, transport):
        self.transport, self.buffer = transport, b""

    def data_received(self, data):
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, rest = self.buffer.split(b"\r\n\r\n", 1)
            length = 0
            for line in head.split(b"\r\n"):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            said = f"{SAID}, {length} bytes\n".encode()
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said))


async def main():
    server = await asyncio.get_running_loop().create_server(Web, "0.0.0.0", int(os.environ["PORT"]))
    await server.serve_forever()


asyncio.run(main())
