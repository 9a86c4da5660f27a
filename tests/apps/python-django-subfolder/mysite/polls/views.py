from django.contrib.auth.models import User
from django.http import HttpResponse


def index(request):
    return HttpResponse(f"Hello, world. You're at the polls index, {User.objects.count()} users.")
