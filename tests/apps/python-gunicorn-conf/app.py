from flask import Flask


app = Flask(__name__)


@app.get("/")
def index():
    return f"set by {app.config.get('SET_BY')}"
