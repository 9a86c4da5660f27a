from .settings import *  # noqa: F403

SECURE_CONTENT_TYPE_NOSNIFF = True
