import os

bind = f"0.0.0.0:{os.environ.get('PORT', '8000')}"
workers = 2
worker_class = "gthread"
threads = 2
accesslog = "-"


def post_worker_init(worker):
    worker.wsgi.config["SET_BY"] = "gunicorn.conf.py"
