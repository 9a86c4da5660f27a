from django.conf import settings
from django.http import HttpResponse


def home(request):
    collected = (settings.STATIC_ROOT / "site.css").exists()
    return HttpResponse(f"debug={settings.DEBUG}, collected={collected}")
