"""A large repository, pushed to where it is only stored."""

import os
import shutil

from basics import detail, middle, now, say, show, turns

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
