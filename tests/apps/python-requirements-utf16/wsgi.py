from bottle import Bottle

application = Bottle()


@application.get("/")
def index():
    return "frozen by PowerShell"
