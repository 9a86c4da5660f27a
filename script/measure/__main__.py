"""The measurements of script/bench, which starts them.

Each figure compares paas with the same work done by hand, in turns: ours,
theirs, ours, theirs. Everything that is started here is gone at the end,
also after Ctrl-C; base images and build caches stay.
"""

import contextlib
import signal
import sys

from basics import Failure, say
from build import measure_build
from detect import measure_detect
from endure import measure_endure
from proxy import measure_proxy
from push import measure_push
from rollback import measure_rollback
from stage import Stage
from transfer import measure_transfer
from wake import measure_wake

FIGURES = {
    "detect": measure_detect,
    "push": measure_push,
    "rollback": measure_rollback,
    "wake": measure_wake,
    "transfer": measure_transfer,
    "build": measure_build,
    "endure": measure_endure,
    "proxy": measure_proxy,
}


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
