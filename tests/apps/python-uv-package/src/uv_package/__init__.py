from importlib.metadata import version

from flask import Flask, render_template


def create_app() -> Flask:
    app = Flask(__name__)

    @app.get("/")
    def index():
        return render_template("index.html", version=version("uv-package"))

    return app


def main() -> None:
    create_app().run()
