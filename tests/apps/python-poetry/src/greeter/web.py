import importlib.util
from importlib.metadata import version

from flask import Flask

app = Flask(__name__)


@app.get("/")
def index():
    dev = importlib.util.find_spec("iniconfig") is not None
    return f"poetry greeter {version('greeter')}, dev={dev}"
