"""A push by hand: OpenSSH, git, BuildKit, a container."""

import contextlib
import io
import os
import random
import re
import secrets
import socket
import tarfile
import time

from basics import Failure, now, say, until

CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
CA_NAMES = (
    "SSL_CERT_FILE PIP_CERT REQUESTS_CA_BUNDLE NODE_EXTRA_CA_CERTS CURL_CA_BUNDLE GIT_SSL_CAINFO"
).split()


def first_answer(address, host, marker):
    """Asks in milliseconds until the answer has the marker."""
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()

    def ask():
        with contextlib.suppress(OSError), socket.create_connection(address, 2) as connection:
            connection.sendall(request)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
            return marker.encode() in answer
        return False

    until(f"{marker} at {address[0]}:{address[1]}", ask, pause=0.001)
    return now()


class Floor:
    """The same by hand: OpenSSH, git, BuildKit, a container like ours."""

    def __init__(self, push):
        self.push, self.stage, self.engine = push, push.stage, push.stage.engine
        self.label = f"paas-bench-{secrets.token_hex(3)}"
        self.kex = self.stage.key_exchange()
        self.repository, self.remote = self.stage.bare("floor.git")
        self.dockerfile = self.generated()
        names = "http_proxy https_proxy no_proxy PIP_INDEX_URL".split()
        self.args = {name: os.environ[name] for name in names if name in os.environ}
        self.stage.undo.callback(self.remove_images)
        self.network()
        self.container = None
        self.stage.undo.callback(self.remove_container)
        say("The same by hand, once, to fill its caches")
        self.push.git("push", "-q", self.remote, "main")
        self.engine.build(self.context(), f"{self.label}:warm", self.args)

    def generated(self):
        """What `paas detect` prints, for the bases on which our own image stands."""
        web = self.engine.get(f"/containers/{self.push.web()}/json")
        layers = self.engine.layers(web["Image"])
        for source in ("debian", "registry"):
            words = (self.stage.paas, "detect", "--image-source", source, self.push.tree)
            text = self.stage.run(*words).split("-----> Dockerfile\n", 1)[1]
            base = re.findall(r"^FROM (\S+)", text, re.MULTILINE)[-1]
            below = self.engine.layers(base)
            if below and layers[: len(below)] == below:
                return self.with_certificates(text)
        raise Failure("`paas detect` names no base that the image of the push stands on.")

    def with_certificates(self, text):
        """The Dockerfile with the host's CA bundle, which `paas serve` adds too."""
        self.bundle = None
        if not os.path.exists(CA_BUNDLE):
            return text
        with open(CA_BUNDLE, "rb") as file:
            self.bundle = file.read()
        inside = "/etc/paas/ca-bundle.crt"
        lines = [f"COPY .paas/ca-bundle.crt {inside}", *(f"ARG {name}={inside}" for name in CA_NAMES)]
        first, rest = text.split("\n", 1)
        return "\n".join([first, *lines, rest])

    def context(self):
        """The commit as a tar of the same layout as ours."""
        files = {".paas/Dockerfile": self.dockerfile.encode()}
        if self.bundle:
            files[".paas/ca-bundle.crt"] = self.bundle
        for name in self.push.git("ls-files").split():
            with open(os.path.join(self.push.tree, name), "rb") as file:
                files[f"app/{name}"] = file.read()
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mtime = len(content), 1262304000
                tar.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()

    def network(self):
        """A network of its own, on a subnet that nobody has."""
        for _ in range(20):
            third = random.randrange(256)
            pool = {"Subnet": f"10.254.{third}.0/26", "Gateway": f"10.254.{third}.1"}
            self.address = f"10.254.{third}.2"
            body = {"Name": self.label, "Driver": "bridge", "IPAM": {"Config": [pool]}}
            with contextlib.suppress(Failure):
                self.engine.ask("POST", "/networks/create", body)
                break
        else:
            raise Failure("The engine gives no network in 10.254.0.0/16.")
        self.stage.undo.callback(
            self.engine.ask, "DELETE", f"/networks/{self.label}", fine=(404,)
        )

    def specification(self, image):
        """A container like that of the last push, limits and all, but for its labels."""
        ours = self.engine.get(f"/containers/{self.push.web()}/json")
        keep = ("Env", "Cmd", "Entrypoint")
        body = {key: ours["Config"][key] for key in keep}
        wanted = (
            "Memory MemorySwap NanoCpus PidsLimit Ulimits CapDrop CapAdd SecurityOpt Init "
            "RestartPolicy LogConfig"
        ).split()
        endpoint = {"IPAMConfig": {"IPv4Address": self.address}}
        return body | {
            "Image": image,
            "HostConfig": {key: ours["HostConfig"][key] for key in wanted} | {"NetworkMode": self.label},
            "NetworkingConfig": {"EndpointsConfig": {self.label: endpoint}},
        }

    def round(self):
        dearer = self.stage.login("true") - self.stage.login("true", "-o", f"KexAlgorithms={self.kex}")
        marker = self.push.commit()
        context = self.context()
        body = self.specification("")
        port = next(int(pair[5:]) for pair in body["Env"] if pair.startswith("PORT="))
        self.container = self.label
        wall, begin = time.time(), now()
        words = ("git", "push", "-q", self.remote, "main")
        self.stage.run(*words, cwd=self.push.tree, env=self.stage.traced)
        pushed = now()
        body["Image"] = self.engine.build(context, f"{self.label}:{marker}", self.args)
        built = now()
        self.engine.ask("POST", "/containers/create", body, name=self.label)
        created = now()
        self.engine.ask("POST", f"/containers/{self.label}/start")
        started = now()
        answered = first_answer((self.address, port), f"{self.push.name}.localhost", marker)
        self.remove_container()
        login = self.push.login(wall)
        return {
            "login": login,
            "git": pushed - begin - login,
            "build": built - pushed,
            "create": created - built,
            "start": started - created,
            "first answer": answered - started,
            "total": answered - begin,
            "dearer": dearer,
        }

    def remove_container(self):
        if self.container:
            self.engine.remove(self.container)
            self.container = None

    def remove_images(self):
        for image in self.engine.get("/images/json", filters={"reference": [f"{self.label}:*"]}):
            self.engine.ask("DELETE", f"/images/{image['Id']}", fine=(404,), force="1")
