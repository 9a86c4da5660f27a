from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from app.api.items import router

app = FastAPI()
app.include_router(router)
app.mount("/files", StaticFiles(directory="files"), name="files")
