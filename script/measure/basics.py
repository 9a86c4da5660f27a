"""What all measurements share: words, waiting, and rounds in turns."""

import random
import socket
import statistics
import time

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
