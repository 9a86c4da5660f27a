import importlib.util

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


async def homepage(request):
    return JSONResponse({"uv": "locked", "dev": importlib.util.find_spec("iniconfig") is not None})


app = Starlette(routes=[Route("/", homepage)])
