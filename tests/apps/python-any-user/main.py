import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        who = "uid ok" if os.getuid() >= 1000 else "uid %d" % os.getuid()
        body = (who + ", " + tmp()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def tmp():
    with open("/tmp/probe", "w") as file:
        file.write("x")
    return "tmp ok"


ThreadingHTTPServer(('', int(os.environ["PORT"])), Page).serve_forever()
