"""Says hello with Python's standard library, from an image of its own."""

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hello(BaseHTTPRequestHandler):
    """Answers every GET with one line."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        release = os.environ.get("PAAS_RELEASE", "no release")
        body = f"Hello from a Dockerfile, release {release}!\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
port = int(os.environ.get("PORT", "9000"))
print(f"listening on port {port}", flush=True)
ThreadingHTTPServer(("", port), Hello).serve_forever()
