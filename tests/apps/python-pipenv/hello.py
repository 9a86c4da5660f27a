import importlib.util

from flask import Flask

app = Flask(__name__)


@app.route("/")
def hello_world():
    return f"<p>Hello, Pipenv! dev={importlib.util.find_spec('iniconfig') is not None}</p>"
