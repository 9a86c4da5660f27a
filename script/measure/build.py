"""Builds and images beside hand-written Dockerfiles.

Every folder of `apps` is an app, and the Dockerfile that somebody who knows
their trade writes for it: several stages, manifests first, cache mounts, a slim
last stage. Both stand on the same base images, those that `paas detect` names.

Ours is what a push takes from git's question whether it may until the image is
there: reading the tree, detection, and the build. What a push has besides, and
`docker build` has not, is shown as `rest` and counts in `script/bench push`:
login, git, the new container until it answers, the swap. Theirs is one request
to the engine, which is what `docker build` sends; the client's own start is not
counted.

Cold: neither side has a layer or a cache mount of the app; ours is a new app,
theirs has new names for its caches. Base images are there. Warm: one line of
code is changed.
"""

import io
import os
import re
import secrets
import shutil
import tarfile

from basics import Failure, detail, middle, now, say, show, turns, until
from floor import CA_BUNDLE, CA_NAMES

APPS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "apps")
MARKER = "MARKER"
PROXIES = ("http_proxy", "https_proxy", "no_proxy")
INDEXES = ("PIP_INDEX_URL", "UV_INDEX_URL", "npm_config_registry", "GOPROXY", "GOSUMDB")
COLD_ROUNDS = 3  # They fetch from package registries.


def packed(files):
    """A tar of names and contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), 1262304000
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


class App:
    """One folder of `apps`, built by both."""

    def __init__(self, stage, name):
        self.stage, self.engine, self.kind = stage, stage.engine, name
        self.folder = os.path.join(APPS, name)
        self.tree = stage.path(f"build-{name}")
        shutil.copytree(os.path.join(self.folder, "app"), self.tree)
        self.marked = self.find_marked()
        self.label = f"paas-bench-{secrets.token_hex(3)}"
        stage.undo.callback(self.remove_images)
        self.git("init", "-q", "-b", "main")
        self.bases = None
        self.ours_image = self.theirs_image = None
        self.name = self.remote = self.scope = None

    def git(self, *words):
        return self.stage.run("git", *words, cwd=self.tree)

    def find_marked(self):
        """The file with the line that changes, and its text."""
        for place, _, names in os.walk(self.tree):
            for name in names:
                path = os.path.join(place, name)
                with open(path, encoding="utf-8", errors="replace") as file:
                    text = file.read()
                if MARKER in text:
                    return path, text
        raise Failure(f"No file of {self.kind} says {MARKER}.")

    def find_bases(self):
        """BUILD_BASE and RUN_BASE, those that our own build stands on."""
        for source in ("debian", "registry"):
            text = self.stage.run(self.stage.paas, "detect", "--image-source", source, self.tree)
            found = re.findall(r"^FROM (\S+[/:]\S+)", text, re.MULTILINE)
            if self.stands_on(found[-1]):
                return {"BUILD_BASE": self.trusting(found[0]), "RUN_BASE": found[-1]}
        raise Failure(f"`paas detect` names no base that the image of {self.kind} stands on.")

    def stands_on(self, base):
        layers, below = (self.engine.layers(image) for image in (self.ours_image, base))
        return below and layers[: len(below)] == below

    def trusting(self, base):
        """The base with what our build stages get from the host: its certificates
        and package indexes. None of it ends in the image."""
        lines, files = [f"FROM {base}"], {}
        if os.path.exists(CA_BUNDLE):
            with open(CA_BUNDLE, "rb") as file:
                files["ca-bundle.crt"] = file.read()
            lines.append("COPY ca-bundle.crt /etc/")
            lines.append("ENV " + " ".join(f"{name}=/etc/ca-bundle.crt" for name in CA_NAMES))
        lines += [f"ENV {name}={os.environ[name]}" for name in INDEXES if name in os.environ]
        files["Dockerfile"] = "\n".join(lines).encode()
        tag = f"{self.label}:base"
        self.engine.build(packed(files), tag, {}, "Dockerfile")
        return tag

    def change(self):
        """Changes the one line to something that no cache has seen."""
        path, text = self.marked
        marker = secrets.token_hex(8)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace(MARKER, marker))
        self.git("add", ".")
        self.git("commit", "-q", "-m", marker)
        return marker

    def forget(self):
        """Nothing of the app is in a cache of either side afterwards."""
        if self.name:
            self.stage.destroy(self.name)
        self.name, self.remote = self.stage.app()
        self.scope = secrets.token_hex(4)

    def ours(self):
        self.change()
        begin = now()
        self.git("push", "-q", self.remote, "main")
        whole = now() - begin
        steps = self.stage.steps()
        self.ours_image = self.our_image()
        self.settle()
        self.bases = self.bases or self.find_bases()
        parts = {"detecting": steps.get("detecting", 0.0), "building": steps["building"]}
        total = sum(parts.values())
        return parts | {"total": total, "rest": whole - total}

    def our_image(self):
        web = self.engine.containers(f"paas.name={self.name}", "paas.process=web.1")
        return max(web, key=lambda container: container["Created"])["ImageID"]

    def settle(self):
        """The old container is gone: its end would cost the next build time."""
        label = f"paas.name={self.name}"
        until("the old container to be gone", lambda: len(self.engine.containers(label)) == 1)

    def theirs(self):
        marker = self.change()
        begin = now()
        tag = f"{self.label}:{marker}"
        self.theirs_image = self.engine.build(self.context(), tag, self.arguments(), "Dockerfile")
        return {"total": now() - begin}

    def arguments(self):
        return self.bases | {name: os.environ[name] for name in PROXIES if name in os.environ}

    def context(self):
        """The app and its Dockerfile, which has cache names of its own."""
        with open(os.path.join(self.folder, "Dockerfile"), encoding="utf-8") as file:
            text = file.read().replace("id=bench-", f"id=bench-{self.scope}-")
        files = {"Dockerfile": text.encode(), ".dockerignore": b"Dockerfile\n.dockerignore\n"}
        for name in self.git("ls-files").split():
            with open(os.path.join(self.tree, name), "rb") as file:
                files[name] = file.read()
        return packed(files)

    def size(self, image):
        """MB of the whole image, and of what is not its base."""
        whole = self.engine.get(f"/images/{image}/json")["Size"]
        base = self.engine.get(f"/images/{self.bases['RUN_BASE']}/json")["Size"]
        return whole / 1e6, (whole - base) / 1e6

    def remove_images(self):
        for image in self.engine.get("/images/json", filters={"reference": [f"{self.label}:*"]}):
            self.engine.ask("DELETE", f"/images/{image['Id']}", fine=(404,), force="1")


def measure_app(stage, name, rounds):
    app = App(stage, name)
    say(f"{name}: cold builds")

    def cold(build):
        def measure():
            if build == app.ours:
                app.forget()
            return build()

        return measure

    coldest = turns(min(rounds, COLD_ROUNDS), cold(app.ours), cold(app.theirs))
    say(f"{name}: warm builds")
    app.ours(), app.theirs()  # The second build is still slower than all later ones.
    warm = turns(rounds, app.ours, app.theirs)
    show(f"{name}: cold build (ms)", *coldest)
    show(f"{name}: warm build, one line changed (ms)", *warm)
    sizes = [app.size(image) for image in (app.ours_image, app.theirs_image)]
    detail("image: ours {:.1f} MB, {:.2f} of it above its base".format(*sizes[0]))
    detail("     theirs {:.1f} MB, {:.2f} of it above its base".format(*sizes[1]))
    stage.destroy(app.name)

    def ratio(figure, pair):
        return f"build-{figure}-{name}", middle(pair[0], "total") / middle(pair[1], "total"), "ours / theirs"

    image = (f"image-{name}", sizes[0][0] / sizes[1][0], "ours / theirs")
    return [ratio("cold", coldest), ratio("warm", warm), image]


def measure_build(stage, rounds):
    names = os.environ.get("BUILD_APPS", "").split() or sorted(os.listdir(APPS))
    unknown = [name for name in names if not os.path.isdir(os.path.join(APPS, name))]
    if unknown:
        raise Failure(f"There is no {', '.join(unknown)} in script/measure/apps.")
    return [figure for name in names for figure in measure_app(stage, name, rounds)]
