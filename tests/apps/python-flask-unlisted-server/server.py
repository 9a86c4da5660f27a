import flask

site = flask.Flask("shop")


@site.get("/items/<name>")
def item(name):
    return f"site served {name}"
