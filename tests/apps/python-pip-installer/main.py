import os

from bottle import route, run


@route("/")
def index():
    return "installed by pip"


run(host="0.0.0.0", port=int(os.environ["PORT"]))
