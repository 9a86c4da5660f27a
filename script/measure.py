"""The measurements of script/bench; not to be run by itself.

Each figure compares paas with the same work done by hand, in turns: ours,
theirs, ours, theirs. Everything that is started here is gone at the end,
also after Ctrl-C; base images and build caches stay.
"""

import contextlib
import http.client
import io
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.parse

EXAMPLE = "examples/python"
LINE, NEW_LINE = "Hello from Python", "Hello from {}"
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
CA_NAMES = (
    "SSL_CERT_FILE PIP_CERT REQUESTS_CA_BUNDLE NODE_EXTRA_CA_CERTS CURL_CA_BUNDLE GIT_SSL_CAINFO"
).split()
RECEIVE = {
    "core.fsync": "all",
    "receive.fsckObjects": "true",
    "receive.autogc": "false",
    "gc.auto": "0",
}
PATIENCE = 120  # seconds for any one thing to happen


def now():
    """Milliseconds."""
    return time.monotonic() * 1000


def say(text):
    print(f"-----> {text}", flush=True)


def detail(text):
    print(f"       {text}", flush=True)


class Failure(Exception):
    """Why nothing can be measured, in one or a few lines."""


def until(what, check, pause=0.01):
    """Waits until `check()` is truthy; returns that."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        value = check()
        if value:
            return value
        time.sleep(pause)
    raise Failure(f"Waited {PATIENCE} s in vain: {what}.")


def free_port():
    """A loopback port below the ephemeral ones."""
    for port in random.sample(range(30000, 32700), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Failure("No port between 30000 and 32700 is free.")


# ---- The engine, by its API -------------------------------------------------


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

    def ask(self, method, path, body=None, kind="application/json", missing_ok=False, **query):
        """One request; the answer as JSON values, one per line, or one."""
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
        if answer.status >= 400 and not (missing_ok and answer.status == 404):
            raise Failure(f"The engine refused {method} {path}: {content.strip()}")
        return content

    def get(self, path, **query):
        return json.loads(self.ask("GET", path, **query))

    def build(self, context, tag, args):
        """Builds by BuildKit; the image's id."""
        answer = self.ask(
            "POST", "/build", context, "application/x-tar",
            version="2", dockerfile=".paas/Dockerfile", t=tag, rm="1", forcerm="1", buildargs=args,
        )  # fmt: skip
        found = None
        for line in map(json.loads, answer.splitlines()):
            if "error" in line:
                raise Failure(f"The build by hand failed: {line['error']}")
            if line.get("id") == "moby.image.id":
                found = line["aux"]["ID"]
        return found

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


# ---- Everything that runs while something is measured -----------------------


class Stage:
    """A throw-away directory with paas, an OpenSSH server and a key in it."""

    def __init__(self, paas, undo):
        self.paas, self.undo = os.path.abspath(paas), undo
        self.engine = Engine()
        self.dir = tempfile.mkdtemp(prefix="paas-bench.", dir=os.environ.get("TMPDIR", "/tmp"))
        undo.callback(shutil.rmtree, self.dir, ignore_errors=True)
        self.home = self.path("home")
        os.mkdir(self.home)
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": self.home,
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "GIT_SSH_COMMAND": " ".join(self.ssh()),
        }
        for who in ("AUTHOR", "COMMITTER"):
            self.env |= {f"GIT_{who}_NAME": "bench", f"GIT_{who}_EMAIL": "bench@localhost"}
        self.trace = self.path("trace")
        self.traced = self.env | {"GIT_TRACE_PACKET": self.trace}
        self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.path("id"))
        self.apps = 0
        self.start_sshd()
        self.start_paas()

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def ssh(self, log_level="ERROR"):
        options = {
            "IdentityFile": self.path("id"),
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": self.path("known_hosts"),
            "LogLevel": log_level,
        }
        pairs = (word for key, value in options.items() for word in ("-o", f"{key}={value}"))
        return ["ssh", "-F", "/dev/null", *pairs]

    def run(self, *words, cwd=None, stdin=None, env=None):
        """Runs a program to its end; its standard output."""
        done = subprocess.run(
            words, cwd=cwd, env=env or self.env, input=stdin,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            output = (done.stdout + done.stderr).strip()
            raise Failure(f"{' '.join(words)} ended with {done.returncode}:\n{output}")
        return done.stdout

    def spawn(self, name, *words, env=None):
        """Starts a server in a session of its own; it is ended with the stage."""
        log = open(self.path(f"{name}.log"), "wb")
        server = subprocess.Popen(
            words, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        log.close()

        def end():
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()

        self.undo.callback(end)
        return server

    def log(self, name):
        with open(self.path(f"{name}.log"), encoding="utf-8", errors="replace") as log:
            return log.read()

    def answers(self, server, name, check):
        """Waits for a server that was just started."""

        def ready():
            if server.poll() is not None:
                raise Failure(f"{name} did not start:\n{self.log(name).strip()[-2000:]}")
            return check()

        until(f"{name} to start", ready)

    def start_sshd(self):
        """OpenSSH without anything that costs time: no PAM, no DNS, no ~/.bashrc."""
        self.ssh_port = free_port()
        self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.path("host_key"))
        shutil.copy(self.path("id.pub"), self.path("authorized_keys"))
        if not os.path.isdir("/run/sshd"):
            os.mkdir("/run/sshd", 0o755)
            self.undo.callback(os.rmdir, "/run/sshd")
        settings = {
            "ListenAddress": f"127.0.0.1:{self.ssh_port}",
            "HostKey": self.path("host_key"),
            "AuthorizedKeysFile": self.path("authorized_keys"),
            "PidFile": "none",
            "StrictModes": "no",
            "PermitRootLogin": "prohibit-password",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            # Only PAM lets a locked account in.
            "UsePAM": "yes" if account_is_locked("root") else "no",
            "UseDNS": "no",
            "PrintMotd": "no",
            "LogLevel": "ERROR",
            "AcceptEnv": "GIT_PROTOCOL",
            "SetEnv": f"HOME={self.home}",
        }
        with open(self.path("sshd_config"), "w", encoding="utf-8") as file:
            file.writelines(f"{key} {value}\n" for key, value in settings.items())
        server = self.spawn("sshd", "/usr/sbin/sshd", "-D", "-e", "-f", self.path("sshd_config"))
        self.answers(server, "sshd", lambda: is_open(self.ssh_port))

    def start_paas(self):
        self.data = self.path("data")
        self.paas_port, self.http_port = free_port(), free_port()
        self.serve = self.spawn(
            "paas", self.paas, "serve", "--data-dir", self.data, "--domain", "localhost",
            "--ssh-listen", f"127.0.0.1:{self.paas_port}",
            "--http-listen", f"127.0.0.1:{self.http_port}",
            "--api-listen", f"127.0.0.1:{free_port()}",
            env=os.environ | {"NO_COLOR": "1"},
        )  # fmt: skip
        status = [self.paas, "--data-dir", self.data, "status"]
        self.answers(
            self.serve,
            "paas",
            lambda: subprocess.run(status, capture_output=True, check=False).returncode == 0,
        )
        with open(self.path("id.pub"), encoding="utf-8") as key:
            self.command("keys:add", "bench", stdin=key.read())

    def command(self, *words, stdin=None):
        return self.run(self.paas, "--data-dir", self.data, *words, stdin=stdin)

    def app(self):
        """A name for an app that is destroyed with the stage, and its remote."""
        self.apps += 1
        name = f"bench-{os.path.basename(self.dir)[-4:].lower().replace('_', 'x')}-{self.apps}"
        self.undo.callback(self.destroy, name)
        return name, f"ssh://paas@127.0.0.1:{self.paas_port}/{name}"

    def destroy(self, name):
        words = [self.paas, "--data-dir", self.data, "apps:destroy", name, "--confirm", name]
        subprocess.run(words, capture_output=True, check=False)

    def bare(self, name):
        """A bare repository with the receive settings of ours, and its remote."""
        path = self.path(name)
        self.run("git", "init", "-q", "--bare", "-b", "main", path)
        for key, value in RECEIVE.items():
            self.run("git", "-C", path, "config", key, value)
        return path, f"ssh://root@127.0.0.1:{self.ssh_port}{path}"

    def login(self, word, *options):
        """Milliseconds that a whole OpenSSH command of no work takes."""
        begin = now()
        self.run(*self.ssh(), *options, "-p", str(self.ssh_port), "root@127.0.0.1", word)
        return now() - begin

    def key_exchange(self):
        """The key exchange that the client agrees on with paas."""
        words = [*self.ssh("DEBUG1"), "-p", str(self.paas_port), "paas@127.0.0.1", "version"]
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, check=False)
        return re.findall(r"kex: algorithm: (\S+)", done.stderr)[0].removesuffix("@libssh.org")


def account_is_locked(name):
    with contextlib.suppress(OSError), open("/etc/shadow", encoding="utf-8") as shadow:
        for line in shadow:
            if line.startswith(f"{name}:"):
                return line.split(":")[1].startswith("!")
    return False


def is_open(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


# ---- Push -------------------------------------------------------------------


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


class Push:
    """One line changed, until the first answer that shows it."""

    def __init__(self, stage):
        self.stage, self.engine = stage, stage.engine
        self.name, self.remote = stage.app()
        self.tree = stage.path("app")
        shutil.copytree(EXAMPLE, self.tree)
        with open(os.path.join(self.tree, "app.py"), encoding="utf-8") as file:
            self.source = file.read()
        if LINE not in self.source:
            raise Failure(f"{EXAMPLE}/app.py no longer says {LINE!r}.")
        self.git("init", "-q", "-b", "main")
        say(f"First push of {EXAMPLE}, which fills the caches")
        self.commit()
        self.git("push", "-q", self.remote, "main")
        self.floor = Floor(self)

    def git(self, *words):
        return self.stage.run("git", *words, cwd=self.tree)

    def login(self, begin):
        """Milliseconds from `begin` (seconds since the epoch) to the first word of
        the server's git, by the client's trace; forgets the trace."""
        with open(self.stage.trace, encoding="utf-8", errors="replace") as trace:
            hours, minutes, seconds = trace.readline().split()[0].split(":")
        os.remove(self.stage.trace)
        of_day = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        return (of_day - begin) % 86400 * 1000

    def commit(self):
        """Changes the one line to something that no cache has seen."""
        marker = secrets.token_hex(8)
        with open(os.path.join(self.tree, "app.py"), "w", encoding="utf-8") as file:
            file.write(self.source.replace(LINE, NEW_LINE.format(marker)))
        self.git("add", ".")
        self.git("commit", "-q", "-m", marker)
        return marker

    def web(self):
        """Our one web container; waits until the old one is gone."""
        labels = (f"paas.name={self.name}", "paas.process=web.1")

        def single():
            found = self.engine.containers(*labels)
            return found[0]["Id"] if len(found) == 1 else None

        return until("the old container to be gone", single)

    def ours(self):
        """Milliseconds of each part; `total` is the figure."""
        marker = self.commit()
        seen, deployed = {}, threading.Event()
        wall, begin = time.time(), now()
        push = subprocess.Popen(
            ["git", "push", self.remote, "main"],
            cwd=self.tree, env=self.stage.traced, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

        def read():
            for line in push.stderr:
                for word in ("Building", "Starting", "Application deployed"):
                    if word in line:
                        seen.setdefault(word, now() - begin)
                if "Application deployed" in line:
                    deployed.set()
                seen["all"] = seen.get("all", "") + line
            deployed.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            deployed.wait(PATIENCE)
            if "Application deployed" not in seen:
                raise Failure(f"The push failed:\n{seen.get('all', '')}")
            address = ("127.0.0.1", self.stage.http_port)
            total = first_answer(address, f"{self.name}.localhost", marker) - begin
            push.wait(PATIENCE)
        finally:
            push.kill()
            push.wait()
        reader.join()
        returned = now() - begin
        moments = self.engine.moments(wall, self.web())
        moments = {key: (value - wall) * 1000 for key, value in moments.items()}
        login, steps = self.login(wall), self.steps()
        detect = steps.get("detecting", 0.0)
        parts = {
            "login": login,
            "git": seen["Building"] - login - detect,
            "detect": detect,
            "build": seen["Starting"] - seen["Building"],
            "create": moments["create"] - seen["Starting"],
            "start": moments["start"] - moments["create"],
        }
        swap = steps.get("moving the branch", 0.0) + steps.get("going live", 0.0)
        parts["swap"] = swap
        parts["first answer"] = total - sum(parts.values())
        parts["total"] = total
        parts["push returns"] = returned
        return parts

    def steps(self):
        """What the server's log says of its last deploy, if it does: milliseconds."""

        def line():
            lines = [line for line in self.stage.log("paas").splitlines() if " deployed " in line]
            return lines[-1:] or None

        found = line() or [""]
        return {name: float(ms) for name, ms in re.findall(r"([a-z][a-z ]*) (\d+) ms", found[0])}

    def theirs(self):
        return self.floor.round()


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
        layers = self.engine.get(f"/images/{web['Image']}/json")["RootFS"]["Layers"]
        for source in ("debian", "registry"):
            words = (self.stage.paas, "detect", "--image-source", source, self.push.tree)
            text = self.stage.run(*words).split("-----> Dockerfile\n", 1)[1]
            base = re.findall(r"^FROM (\S+)", text, re.MULTILINE)[-1]
            found = json.loads(self.engine.ask("GET", f"/images/{base}/json", missing_ok=True))
            below = found.get("RootFS", {}).get("Layers")
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
            self.engine.ask, "DELETE", f"/networks/{self.label}", missing_ok=True
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
            path = f"/containers/{self.container}"
            self.engine.ask("DELETE", path, missing_ok=True, force="1", v="1")
            self.container = None

    def remove_images(self):
        for image in self.engine.get("/images/json", filters={"reference": [f"{self.label}:*"]}):
            self.engine.ask("DELETE", f"/images/{image['Id']}", missing_ok=True, force="1")


def measure_push(stage, rounds):
    push = Push(stage)
    push.ours()  # The second push is still slower than all later ones.
    push.theirs()
    ours, theirs = turns(rounds, push.ours, push.theirs)
    show("push → first answer, one line changed (ms)", ours, theirs)
    total = middle(ours, "total")
    same = middle(theirs, "total") - middle(theirs, "dearer")
    detail(f"theirs would be {same:.1f} with the key exchange that paas agrees on, {push.floor.kex}")
    return [
        ("push", total / middle(theirs, "total"), "ours / theirs"),
        ("push-same-kex", total / same, "ours / theirs with the same key exchange"),
    ]


# ---- Transfer ---------------------------------------------------------------


class Memory:
    """Resident memory of a process while something goes on, MiB."""

    def __init__(self, pid):
        self.pid, self.peak, self.before = pid, 0.0, 0.0

    def read(self, field):
        with open(f"/proc/{self.pid}/status", encoding="utf-8") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024

    def __enter__(self):
        with open(f"/proc/{self.pid}/clear_refs", "w", encoding="utf-8") as reset:
            reset.write("5")  # VmHWM begins anew
        self.before = self.read("VmRSS:")
        return self

    def __exit__(self, *_):
        self.peak = self.read("VmHWM:")


class Transfer:
    """A repository of incompressible files, pushed to a branch that is only stored."""

    def __init__(self, stage, mib):
        self.stage, self.mib = stage, mib
        self.tree = stage.path(f"data-{mib}")
        os.mkdir(self.tree)
        files = max(1, mib // 10)
        for number in range(files):
            with open(os.path.join(self.tree, f"{number}.bin"), "wb") as file:
                for _ in range(mib // files):
                    file.write(os.urandom(1 << 20))
        run = lambda *words: stage.run("git", *words, cwd=self.tree)  # noqa: E731
        run("init", "-q", "-b", "main")
        run("config", "core.compression", "0")
        run("add", ".")
        run("commit", "-q", "-m", "Data")
        # In a pack already, so that the client has nothing to compress in a push.
        run("-c", "pack.window=0", "repack", "-adq")

    def push(self, remote):
        begin = now()
        self.stage.run("git", "push", "-q", remote, "main:refs/heads/data", cwd=self.tree)
        return now() - begin

    def ours(self):
        name, remote = self.stage.app()
        try:
            with Memory(self.stage.serve.pid) as memory:
                total = self.push(remote)
        finally:
            self.stage.destroy(name)
        return {"total": total, "MiB before": memory.before, "MiB peak": memory.peak}

    def theirs(self):
        path, remote = self.stage.bare("transfer.git")
        try:
            return {"total": self.push(remote)}
        finally:
            shutil.rmtree(path)


def measure_transfer(stage, rounds):
    mib = int(os.environ.get("TRANSFER_MB") or 200)
    say(f"Making repositories of {mib // 10} and {mib} MiB")
    small, large = Transfer(stage, max(1, mib // 10)), Transfer(stage, mib)
    few = [small.ours() for _ in range(3)]
    ours, theirs = turns(rounds, large.ours, large.theirs)
    show(f"push of {mib} MiB to a branch that is only stored (ms)", ours, theirs)
    peak = max(one["MiB peak"] for one in ours)
    lesser = max(one["MiB peak"] for one in few)
    detail(f"memory of paas serve: at most {peak:.1f} MiB; with a tenth of the data {lesser:.1f} MiB")
    return [
        ("transfer", middle(ours, "total") / middle(theirs, "total"), "ours / theirs"),
        ("transfer-memory", peak / lesser, f"peak at {mib} MiB / at {mib // 10} MiB"),
    ]


# ---- Rounds and what they say -----------------------------------------------


def turns(rounds, ours, theirs):
    """Both in turns, so that whatever else the machine does hits both."""
    results = ([], [])
    for number in range(1, rounds + 1):
        for measure, into in zip((ours, theirs), results):
            into.append(measure())
        both = tuple(result[-1]["total"] for result in results)
        detail("round {}/{}: ours {:.0f} ms, theirs {:.0f} ms".format(number, rounds, *both))
    return results


def middle(results, part):
    return statistics.median(result[part] for result in results)


def show(title, ours, theirs):
    """A table: median and (min–max) of each part."""

    def cell(results, part):
        if part not in results[0]:
            return ""
        values = [result[part] for result in results]
        return f"{statistics.median(values):8.1f}  ({min(values):.1f}–{max(values):.1f})"

    say(title)
    detail(f"{'':14}{'ours':>8}{'':24}{'theirs':>8}")
    for part in ours[0]:
        detail(f"{part:14}{cell(ours, part):32}{cell(theirs, part)}".rstrip())


FIGURES = {"push": measure_push, "transfer": measure_transfer}


def main(paas, rounds, *which):
    figures = []
    undo = contextlib.ExitStack()
    try:
        stage = Stage(paas, undo)
        for name in which or FIGURES:
            figures += FIGURES[name](stage, int(rounds))
    finally:
        # Nothing may cut the removal short.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        say("Removing everything that was started")
        undo.close()
    for name, value, meaning in figures:
        print(f"ratio {name} {value:.2f} ({meaning})")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main(*sys.argv[1:])
    except Failure as failure:
        first, *more = str(failure).splitlines()
        print(f" !     {first}", *(f"       {line}" for line in more), sep="\n", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
