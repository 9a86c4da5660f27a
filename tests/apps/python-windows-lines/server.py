import http.server
import os


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = open("word.txt", "rb").read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
