"""How long a first request to an app that sleeps takes until its answer.

Nothing of the app runs: its container has to be started, and to boot. Beside it stands
what the same container takes by hand, from its creation to its first answer.
"""

import re

from basics import detail, middle, now, show, turns
from floor import first_answer
from rollback import Rollback

BEYOND = 200  # milliseconds allowed beyond the app's own start


class Wake:
    """An app that is put to sleep again and again."""

    def __init__(self, stage):
        self.stage, self.rollback = stage, Rollback(stage)
        self.push = self.rollback.push
        # Ends the watch, in which nothing falls asleep.
        self.stage.command("ps:restart", self.push.name)
        self.push.settled()
        self.rollback.markers[self.rollback.current()] = list(self.rollback.markers.values())[-1]

    def marker(self):
        return self.rollback.markers[self.rollback.current()]

    def cold(self):
        marker = self.marker()
        self.stage.command("ps:sleep", self.push.name, "--now")
        begin = now()
        address = ("127.0.0.1", self.stage.http_port)
        answer = first_answer(address, f"{self.push.name}.localhost", marker) - begin
        said = self.stage.command("ps", self.push.name)
        told = float(re.search(r"Woke in (\d+) ms", said).group(1))
        return {"total": answer, "as ps tells": told}


def measure_wake(stage, rounds):
    wake = Wake(stage)
    wake.cold()
    ours, theirs = turns(rounds, wake.cold, wake.rollback.by_hand)
    show("first request to an app that sleeps → answer, and the container by hand (ms)", ours, theirs)
    beyond = middle(ours, "total") - middle(theirs, "total")
    detail(f"beyond the app's own start: {beyond:.0f} ms")
    return [
        ("wake", middle(ours, "total") / middle(theirs, "total"), "ours / theirs"),
        ("wake-beyond", beyond / BEYOND, f"ms beyond the app's start / the {BEYOND} ms allowed"),
    ]
