import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = "LAPTOP" in os.environ
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "mysite.urls"
INSTALLED_APPS = ["django.contrib.staticfiles"]
MIDDLEWARE = ["whitenoise.middleware.WhiteNoiseMiddleware"]
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "mysite" / "static"]

if not DEBUG:
    STATIC_ROOT = BASE_DIR / "staticfiles"
    STORAGES = {"staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}}
    SECRET_KEY = os.environ["MYSITE_SECRET_KEY"]
