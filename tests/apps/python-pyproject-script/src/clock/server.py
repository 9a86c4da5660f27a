import os

from waitress import serve


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"the clock serves itself"]


def main():
    serve(application, host="0.0.0.0", port=int(os.environ["PORT"]))
