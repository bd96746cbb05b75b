"""A site of Django's in one file: what a project's settings, urls and views would be."""

from __future__ import annotations

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

if not settings.configured:
    settings.configure(
        ROOT_URLCONF=__name__,
        SECRET_KEY="a test's",
        ALLOWED_HOSTS=["*"],
        USE_TZ=True,
        DEFAULT_CHARSET="utf-8",
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    )
    django.setup()


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"Hello, {request.GET.get('name', 'World')}!")


def where(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.build_absolute_uri("x"))


def form(request: HttpRequest) -> HttpResponse:
    names = [f"{name}={file.size}" for name, file in request.FILES.items()]
    return HttpResponse(" ".join([*(f"{k}={v}" for k, v in request.POST.items()), *names]))


def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(f"{number}\n" for number in range(1000))


def file(request: HttpRequest) -> FileResponse:
    return FileResponse(open(__file__, "rb"))


def fails(request: HttpRequest) -> HttpResponse:
    raise KeyError("a view's own fault")


async def greets(request: HttpRequest) -> HttpResponse:
    return HttpResponse("from a coroutine")


urlpatterns = [
    path("", hello),
    path("where/", where),
    path("form/", form),
    path("stream/", stream),
    path("file/", file),
    path("fails/", fails),
    path("async/", greets),
]

application = get_wsgi_application()
asgi_application = get_asgi_application()
