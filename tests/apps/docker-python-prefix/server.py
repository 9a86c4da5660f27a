import getpass
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import itsdangerous


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{getpass.getuser()} has {itsdangerous.__name__} from {itsdangerous.__file__}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
