import os

import six
from bottle import route, run


@route("/")
def index():
    return f"six {six.__version__}"


run(server="waitress", host="0.0.0.0", port=int(os.environ["PORT"]))
