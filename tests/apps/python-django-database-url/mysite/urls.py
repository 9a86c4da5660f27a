from django.contrib import admin
from django.http import HttpResponse
from django.contrib.auth.models import User
from django.urls import path
urlpatterns = [path("admin/", admin.site.urls), path("", lambda r: HttpResponse("users: %d" % User.objects.count()))]
