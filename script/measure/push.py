"""One line of code changed, until the first answer that shows it."""

import os
import secrets
import shutil
import subprocess
import threading
import time

from basics import PATIENCE, Failure, detail, middle, now, say, show, turns, until
from floor import Floor, first_answer

EXAMPLE = "examples/python"
LINE, NEW_LINE = "Hello from Python", "Hello from {}"


class Client:
    """A `git push` whose lines are seen as they come."""

    WORDS = ("Building", "Starting", "Application deployed")

    def __init__(self, push):
        self.seen, self.lines, self.settled = {}, [], threading.Event()
        self.push = subprocess.Popen(
            ["git", "push", push.remote, "main"],
            cwd=push.tree, env=push.stage.traced, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.push.stderr:
            moment = now()
            self.lines.append(line)
            for word in self.WORDS:
                if word in line:
                    self.seen.setdefault(word, moment)
            if self.WORDS[-1] in line:
                self.settled.set()
        self.settled.set()

    def until_deployed(self, begin):
        """Milliseconds from `begin` to each of the words."""
        self.settled.wait(PATIENCE)
        if any(word not in self.seen for word in self.WORDS):
            raise Failure("The push failed:\n" + "".join(self.lines))
        return {word: moment - begin for word, moment in self.seen.items()}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.push.kill()
        self.push.wait()
        self.reader.join()


class Push:
    """One line changed, until the first answer that shows it."""

    def __init__(self, stage):
        self.stage, self.engine = stage, stage.engine
        self.name, self.remote = stage.app()
        self.tree = stage.path(f"push-{secrets.token_hex(3)}")
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
        """The newest web container of ours; that of the release before stands by."""
        return max(self.all_web(), key=lambda one: int(one["Labels"]["paas.release"]))["Id"]

    def settled(self):
        """Waits until there is no other."""
        until("the old containers to be gone", lambda: len(self.all_web()) == 1)

    def all_web(self):
        return self.engine.containers(f"paas.name={self.name}", "paas.process=web.1")

    def ours(self):
        """Milliseconds of each part; `total` is the figure."""
        marker = self.commit()
        wall, begin = time.time(), now()
        with Client(self) as client:
            seen = client.until_deployed(begin)
            address = ("127.0.0.1", self.stage.http_port)
            total = first_answer(address, f"{self.name}.localhost", marker) - begin
            client.push.wait(PATIENCE)
        returned = now() - begin
        moments = self.engine.moments(wall, self.web())
        moments = {key: (value - wall) * 1000 for key, value in moments.items()}
        login, steps = self.login(wall), self.stage.steps()
        detect = steps.get("detecting", 0.0)
        parts = {
            "login": login,
            "git": seen["Building"] - login - detect,
            "detect": detect,
            "build": seen["Starting"] - seen["Building"],
            "create": moments["create"] - seen["Starting"],
            "start": moments["start"] - moments["create"],
            "swap": steps.get("moving the branch", 0.0) + steps.get("going live", 0.0),
        }
        # The app's start as the health check sees it, and a request through the proxy.
        parts["first answer"] = total - sum(parts.values())
        return parts | {"total": total, "push returns": returned}

    def theirs(self):
        return self.floor.round()


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
