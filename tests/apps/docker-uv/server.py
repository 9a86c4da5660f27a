import os
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import markupsafe

SYSTEM = "import itsdangerous; print(itsdangerous.__name__)"


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        system = subprocess.check_output(["/usr/local/bin/python", "-c", SYSTEM], text=True).strip()
        body = f"{markupsafe.__name__} by uv sync, {system} by uv pip".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
