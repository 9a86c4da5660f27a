"""Requests at a fixed rate while releases come and go and the control plane is killed.

RATE requests per second (500) go to an app that answers quickly, through DEPLOYS
pushes (50), ROLLBACKS rollbacks (10) and KILLS times SIGKILL to `paas serve` (5), at a
random instant of a push or a rollback, which is then begun again. None may fail. A
pause is how long a request waited for its answer from when it was due: beside it
stands the longest one of the time before anything happened.
"""

import array
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time

from basics import PATIENCE, Failure, detail, say
from floor import first_answer

HERE = os.path.dirname(os.path.abspath(__file__))
LINE = "release one"
CALM = 10  # seconds of requests before anything happens


def setting(name, default):
    value = os.environ.get(name) or str(default)
    if not value.isdigit():
        raise Failure(f"{name}={value} is not a number.")
    return int(value)


class Endure:
    """An app under load, and what is done to it."""

    def __init__(self, stage):
        self.stage = stage
        self.name, self.remote = stage.app()
        self.tree, self.file = stage.path("quick"), stage.path("requests")
        self.events, self.pushes, self.usual, self.spared = [], 0, 1.0, 0
        shutil.copytree(os.path.join(HERE, "quick-app"), self.tree)
        with open(os.path.join(self.tree, "app.py"), encoding="utf-8") as file:
            self.source = file.read()
        self.git("init", "-q", "-b", "main")
        self.commit()
        self.push()

    def git(self, *words):
        return self.stage.run("git", *words, cwd=self.tree)

    def commit(self):
        self.pushes += 1
        marker = f"push {self.pushes}, {random.randbytes(4).hex()}"
        with open(os.path.join(self.tree, "app.py"), "w", encoding="utf-8") as file:
            file.write(self.source.replace(LINE, marker))
        self.git("add", ".")
        self.git("commit", "-q", "-m", marker)

    def push(self):
        # After a rollback the branch is behind what was pushed.
        self.git("push", "-q", "--force", self.remote, "main")

    def deploy(self):
        self.commit()
        return self.push

    def rollback(self):
        return lambda: self.stage.command("rollback", self.name)

    def happens(self, what, work):
        begin = time.monotonic()
        work()
        end = time.monotonic()
        self.events.append((begin, end, what))
        return end - begin

    def kill(self, work):
        """Kills the control plane at a random instant of this work, and starts it again."""

        def cut_off():
            # It may have been done already.
            with contextlib.suppress(Failure):
                work()
                self.spared += 1

        working = threading.Thread(target=cut_off, daemon=True)
        working.start()
        working.join(random.uniform(0, self.usual))
        self.stage.kill_paas()
        self.stage.serve_paas()
        working.join(PATIENCE)
        if working.is_alive():
            raise Failure(f"What was cut off has not ended after {PATIENCE} s.")

    def check(self):
        """The server's branch names what runs: this commit answers."""
        branch = self.stage.run("git", "ls-remote", self.remote, "refs/heads/main").split()[0]
        marker = self.git("log", "-1", "--format=%s", branch).strip()
        first_answer(("127.0.0.1", self.stage.http_port), f"{self.name}.localhost", marker)

    def through(self, deploys, rollbacks, kills):
        """All of it, mixed: each is done to its end, however often it is cut off."""
        # A rollback wants a release before; after two in a row there may be none.
        works = [self.deploy] * deploys
        for number in range(rollbacks):
            works.insert((number + 1) * (deploys + rollbacks) // (rollbacks + 1), self.rollback)
        cut = set(random.sample(range(1, len(works)), min(kills, len(works) - 1)))
        for number, begin in enumerate(works):
            what = "rollback" if begin == self.rollback else "push"
            work = begin()
            if number in cut:
                self.happens(f"a SIGKILL in a {what}", lambda: self.kill(work))
            # Of a push that was cut off after its commit point this one changes nothing.
            took = self.happens(what, work)
            self.usual = self.usual if number in cut else took
            self.check()
            if (number + 1) % 10 == 0:
                detail(f"{number + 1}/{len(works)}")

    def load(self, rate):
        words = (sys.executable, "-B", os.path.join(HERE, "load.py"))
        more = ("127.0.0.1", self.stage.http_port, f"{self.name}.localhost", rate, self.file)
        return subprocess.Popen(
            [*words, *map(str, more)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def pauses(self):
        """When each request was due, and its milliseconds."""
        values = array.array("d")
        with open(self.file, "rb") as file:
            values.frombytes(file.read())
        return sorted(zip(values[0::2], values[1::2]))

    def meanwhile(self, moment, took):
        """What happened while a request waited."""
        end = moment + took / 1000
        names = [what for begin, ended, what in self.events if begin <= end and moment <= ended]
        return ", ".join(names) or "nothing"


def share(values, part):
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def measure_endure(stage, _rounds):
    rate, deploys = setting("RATE", 500), setting("DEPLOYS", 50)
    rollbacks, kills = setting("ROLLBACKS", 10), setting("KILLS", 5)
    endure = Endure(stage)
    say(f"{rate} requests per second through {deploys} deploys, {rollbacks} rollbacks and {kills} SIGKILLs")
    load = endure.load(rate)
    try:
        time.sleep(CALM)
        begin = time.monotonic()
        endure.through(deploys, rollbacks, kills)
        time.sleep(2)
        told = json.loads(load.communicate(timeout=PATIENCE)[0])
    finally:
        load.kill()
    all_of_it = endure.pauses()
    calm = [took for due, took in all_of_it if due < begin]
    busy = [(took, due) for due, took in all_of_it if due >= begin]
    longest, moment = max(busy)
    for title, values in (("before", calm), ("meanwhile", [took for took, _ in busy])):
        half, most, nearly = (share(values, part) for part in (0.5, 0.99, 0.999))
        detail(
            f"{title:10} {len(values):7} requests: median {half:.1f} ms, "
            f"99 % {most:.1f} ms, 99.9 % {nearly:.1f} ms, longest {max(values):.1f} ms"
        )
    detail(f"of the SIGKILLs {kills - endure.spared} cut a push or a rollback off")
    detail(f"the longest waited during: {endure.meanwhile(moment, longest)}")
    detail(f"the generator itself was late by at most {told['late']:.1f} ms, which counts as waiting")
    if len(all_of_it) != told["requests"]:
        raise Failure(f"{told['requests']} requests were sent, but {len(all_of_it)} were counted.")
    failures = told["failures"]
    detail(f"{len(failures)} of {told['requests']} requests failed")
    for one in failures[:20]:
        moment = f"{one['at'] - begin:8.3f} s, for {one['ms']:.0f} ms"
        detail(f"{moment}: {one['what']} (during {endure.meanwhile(one['at'], one['ms'])})")
    if failures:
        raise Failure(f"{len(failures)} of {told['requests']} requests failed; none may.")
    return [("endure-pause", longest / max(calm), f"{longest:.0f} ms / the longest without any of it")]
