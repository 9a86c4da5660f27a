from django.contrib import admin
from django.urls import path

from polls import views

urlpatterns = [
    path("polls/", views.index),
    path("admin/", admin.site.urls),
]
