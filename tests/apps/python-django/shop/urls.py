from pathlib import Path

from django.conf import settings
from django.http import HttpResponse
from django.urls import path


def index(request):
    collected = (Path(settings.STATIC_ROOT) / "shop.css").exists()
    return HttpResponse(f"django shop is open, collected={collected}")


urlpatterns = [path("", index)]
