"""The engine, by its API."""

import http.client
import json
import os
import socket
import time
import urllib.parse

from basics import Failure, until

class Engine:
    """The Docker engine without a client program in between."""

    def __init__(self):
        host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        self.address = urllib.parse.urlparse(host)
        if self.address.scheme not in ("unix", "tcp", "http"):
            raise Failure(f"DOCKER_HOST is {host}: the measurements want unix:// or tcp://.")

    def _connect(self):
        if self.address.scheme != "unix":
            return http.client.HTTPConnection(self.address.hostname, self.address.port)
        connection = http.client.HTTPConnection("engine")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self.address.path)
        return connection

    def ask(self, method, path, body=None, kind="application/json", fine=(), **query):
        """One request; the answer's text. A status of 400 or more has to be in `fine`."""
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        text = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in query.items()
        }
        target = "/v1.41" + path + ("?" + urllib.parse.urlencode(text) if text else "")
        connection = self._connect()
        try:
            connection.request(method, target, body, {"Content-Type": kind} if body else {})
            answer = connection.getresponse()
            content = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= 400 and answer.status not in fine:
            raise Failure(f"The engine refused {method} {path}: {content.strip()}")
        return content

    def get(self, path, **query):
        return json.loads(self.ask("GET", path, **query))

    def build(self, context, tag, args, dockerfile=".paas/Dockerfile"):
        """Builds by BuildKit; the image's id."""
        answer = self.ask(
            "POST", "/build", context, "application/x-tar",
            version="2", dockerfile=dockerfile, t=tag, rm="1", forcerm="1", buildargs=args,
        )  # fmt: skip
        found = None
        for line in map(json.loads, answer.splitlines()):
            if "error" in line:
                raise Failure(f"The build by hand failed: {line['error']}")
            if line.get("id") == "moby.image.id":
                found = line["aux"]["ID"]
        return found

    def remove(self, container):
        """Removes a container by force; back when it is gone, whoever removes it."""
        path = f"/containers/{container}"

        def gone():
            return "No such container" in self.ask(
                "DELETE", path, fine=(404, 409), force="1", v="1"
            )

        until(f"{container} to be removed", gone)

    def layers(self, image):
        """The layers of an image, from the lowest; none if there is no such image."""
        text = self.ask("GET", f"/images/{image}/json", fine=(404,))
        return json.loads(text).get("RootFS", {}).get("Layers", [])

    def containers(self, *labels):
        return self.get("/containers/json", all="1", filters={"label": list(labels)})

    def moments(self, begin, container):
        """When a container was created and started: seconds since the epoch."""
        since = f"{begin:.6f}"
        answer = self.ask(
            "GET", "/events", since=since, until=f"{time.time():.6f}",
            filters={"container": [container], "event": ["create", "start"]},
        )  # fmt: skip
        events = map(json.loads, answer.splitlines())
        return {event["Action"]: event["timeNano"] / 1e9 for event in events}
