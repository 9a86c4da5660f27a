from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

asked = []


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/healthz":
            asked.append(self.headers.get("User-Agent", "").split("/")[0])
        body = f"asked by {asked[-1] if asked else 'nobody'}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("", 8080), Page).serve_forever()
