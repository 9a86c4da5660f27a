import importlib.util
import os
import platform

from bottle import route, run


@route("/")
def index():
    dev = importlib.util.find_spec("iniconfig") is not None
    return f"pdm on {platform.python_version()}, dev={dev}"


if __name__ == "__main__":
    run(server="waitress", host="0.0.0.0", port=int(os.environ["PORT"]))
