"""Everything that runs while something is measured."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile

from basics import Failure, free_port, now, until
from engine import Engine

RECEIVE = {
    "core.fsync": "all",
    "receive.fsckObjects": "true",
    "receive.autogc": "false",
    "gc.auto": "0",
}


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

    @contextlib.contextmanager
    def started(self, *words):
        """A program that runs meanwhile, and has to succeed."""
        running = subprocess.Popen(
            words, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        try:
            yield running
        finally:
            running.kill()
            output = running.communicate()[0].strip()
        if running.returncode != 0:
            raise Failure(f"{' '.join(words)} ended with {running.returncode}:\n{output}")

    def spawn(self, name, *words, env=None):
        """Starts a server in a session of its own."""
        log = open(self.path(f"{name}.log"), "ab")
        server = subprocess.Popen(
            words, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        log.close()
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
        self.undo.callback(end, server)
        self.answers(server, "sshd", lambda: is_open(self.ssh_port))

    def start_paas(self):
        self.data = self.path("data")
        self.paas_port, self.http_port, self.api_port = free_port(), free_port(), free_port()
        self.serve = None
        self.undo.callback(lambda: self.serve and end(self.serve))
        self.serve_paas()
        with open(self.path("id.pub"), encoding="utf-8") as key:
            self.command("keys:add", "bench", stdin=key.read())

    def serve_paas(self):
        """Starts the control plane, again if need be; back when it answers."""
        self.serve = self.spawn(
            "paas", self.paas, "serve", "--data-dir", self.data, "--domain", "localhost",
            "--ssh-listen", f"127.0.0.1:{self.paas_port}",
            "--http-listen", f"127.0.0.1:{self.http_port}",
            "--api-listen", f"127.0.0.1:{self.api_port}",
            env=os.environ | {"NO_COLOR": "1"},
        )  # fmt: skip
        status = [self.paas, "--data-dir", self.data, "status"]
        self.answers(
            self.serve,
            "paas",
            lambda: subprocess.run(status, capture_output=True, check=False).returncode == 0,
        )

    def kill_paas(self):
        """SIGKILL to the control plane alone."""
        self.serve.kill()
        self.serve.wait()

    def command(self, *words, stdin=None):
        return self.run(self.paas, "--data-dir", self.data, *words, stdin=stdin)

    def steps(self):
        """What the server's log says of its last deploy, if it does: milliseconds."""
        lines = [line for line in self.log("paas").splitlines() if " deployed " in line]
        found = re.findall(r"([a-z][a-z ]*) (\d+) ms", lines[-1] if lines else "")
        return {name: float(ms) for name, ms in found}

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


def end(server):
    server.terminate()
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


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
