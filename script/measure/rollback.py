"""How long it takes until a former release answers again.

While it stands by, in the watch after a push, nothing is started: that is our time
alone, with the start of the client and its login; beside it stands what a command of
no work takes from its start to its end. After it, its processes have to be started: beside ours stands what the same
container takes by hand, from its creation to its first answer.
"""

import json

from basics import detail, middle, now, show, turns
from floor import first_answer
from push import Push

WARM = 150  # milliseconds allowed, with what stands by
COLD = 1000  # milliseconds allowed beyond the app's own start


class Rollback:
    """An app whose last two releases take turns."""

    def __init__(self, stage):
        self.stage, self.push = stage, Push(stage)
        self.markers = {}
        self.next()

    def current(self):
        releases = json.loads(self.stage.command("releases", self.push.name, "--json"))
        return next(one["number"] for one in releases if one["state"] == "current")

    def next(self):
        """Pushes a release; the number of the one before."""
        before = self.current()
        marker = self.push.commit()
        self.push.git("push", "-q", "--force", self.push.remote, "main")
        self.markers[self.current()] = marker
        return before

    def back(self, number, command):
        """Milliseconds from the command to the first answer, and to the command's end."""
        marker, begin = self.markers[number], now()
        with self.stage.started(*command, "rollback", self.push.name, f"v{number}") as running:
            address = ("127.0.0.1", self.stage.http_port)
            answer = first_answer(address, f"{self.push.name}.localhost", marker) - begin
            running.wait(60)
        returned = now() - begin
        self.markers[self.current()] = marker
        return {"total": answer, "command returns": returned}

    def floor(self, command):
        """Milliseconds of a command of no work."""
        begin = now()
        self.stage.run(*command, "version")
        return now() - begin

    def ssh(self):
        return [*self.stage.ssh(), "-p", str(self.stage.paas_port), "paas@127.0.0.1"]

    def local(self):
        return [self.stage.paas, "--data-dir", self.stage.data]

    def warm(self, command):
        number = self.next()
        floor = self.floor(command)
        parts = self.back(number, command)
        return parts | {"a command of no work": floor, "beyond it": parts["total"] - floor} | self.stage.steps()

    def cold(self):
        number = self.next()
        # Ends the watch, and what stands by.
        self.stage.command("ps:restart", self.push.name)
        self.push.settled()
        parts = self.back(number, self.local())
        return parts | self.stage.steps()

    def by_hand(self):
        """Creation, start and first answer of the container that runs now."""
        floor, engine = self.push.floor, self.push.engine
        web = engine.get(f"/containers/{self.push.web()}/json")
        body = floor.specification(web["Image"])
        port = next(int(pair[5:]) for pair in body["Env"] if pair.startswith("PORT="))
        floor.container, begin = floor.label, now()
        engine.ask("POST", "/containers/create", body, name=floor.label)
        engine.ask("POST", f"/containers/{floor.label}/start")
        host = f"{self.push.name}.localhost"
        answered = first_answer((floor.address, port), host, self.markers[self.current()])
        floor.remove_container()
        return {"total": answered - begin}


def measure_rollback(stage, rounds):
    rollback = Rollback(stage)
    rollback.warm(rollback.local())
    local, remote = turns(
        rounds, lambda: rollback.warm(rollback.local()), lambda: rollback.warm(rollback.ssh())
    )
    show("rollback → first answer while the release stands by (ms): on the server, by ssh", local, remote)
    rollback.cold()
    ours, theirs = turns(rounds, rollback.cold, rollback.by_hand)
    show("rollback → first answer after the watch, and the container by hand (ms)", ours, theirs)
    work = middle(remote, "beyond it")
    beyond = middle(ours, "total") - middle(theirs, "total")
    detail(f"beyond the app's own start: {beyond:.0f} ms")
    return [
        ("rollback-warm", middle(local, "total") / WARM, f"ms / the {WARM} ms allowed"),
        ("rollback-warm-ssh", middle(remote, "total") / WARM, f"ms with ssh's login / the {WARM} ms allowed"),
        ("rollback-warm-beyond", work / WARM, f"ms beyond ssh's login / the {WARM} ms allowed"),
        ("rollback", beyond / COLD, f"ms beyond the app's start / the {COLD} ms allowed"),
    ]
