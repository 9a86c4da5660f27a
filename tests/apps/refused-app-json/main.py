import http.server
import os

port = int(os.environ["PORT"])
http.server.HTTPServer(("", port), http.server.SimpleHTTPRequestHandler).serve_forever()
