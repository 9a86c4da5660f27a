from flask import Flask
from tally import count

app = Flask(__name__)


@app.get("/")
def index():
    return count()
