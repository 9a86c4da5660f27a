"""Says hello from Flask. `git push paas main` finds this file by itself."""

import os

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello():
    release = os.environ.get("PAAS_RELEASE", "no release")
    return f"Hello from Python, release {release}!\n", {"Content-Type": "text/plain; charset=utf-8"}
