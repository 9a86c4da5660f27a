from bottle import Bottle
from greeting import greet

app = Bottle()


@app.get("/")
def index():
    return greet("bottle")
