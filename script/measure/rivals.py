"""Proxies with one upstream each, on one processor: ours, nginx, haproxy and Caddy.

Each is configured as somebody would who wants it fast and with the same duties: keep-alive
to both sides, the headers that name the client, no access log.
"""

import json
import os
import shutil
import socket
import struct
import subprocess

from basics import Failure, free_port, until
from stage import end, is_open

NAME = "bench.localhost"
TICKS = os.sysconf("SC_CLK_TCK")
# The one that is measured has a processor of its own; the load and the upstream share the other.
MEASURED, OTHERS = "1", "0"

NGINX = """
user root;
worker_processes 1;
daemon off;
pid {dir}/{name}.pid;
error_log {dir}/{name}.log;
events {{ worker_connections 9000; }}
http {{
    access_log off;
    client_body_temp_path {dir}/{name}.body;
    proxy_temp_path {dir}/{name}.temp;
    fastcgi_temp_path {dir}/{name}.fcgi;
    uwsgi_temp_path {dir}/{name}.uwsgi;
    scgi_temp_path {dir}/{name}.scgi;
    keepalive_requests 1000000;
    keepalive_timeout 75s;
    {body}
}}
"""

NGINX_PROXY = """
    upstream app {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        listen 127.0.0.1:{tls} ssl backlog=4096;
        ssl_certificate {dir}/tls.pem;
        ssl_certificate_key {dir}/tls.key;
        ssl_session_tickets off;
        server_name {host};
        client_max_body_size 1g;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Request-Id $request_id;
        proxy_buffering off;
        proxy_request_buffering off;
        location / {{ proxy_pass http://app; }}
    }}
"""

NGINX_UPSTREAM = """
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /mib {{ root {dir}; }}
        location / {{ default_type text/plain; return 200 "hello, world\\n"; }}
    }}
"""

HAPROXY = """
global
    maxconn 9000
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 75s
    timeout server 75s
    timeout http-keep-alive 75s
    http-reuse always
frontend web
    bind 127.0.0.1:{port} backlog 4096
    bind 127.0.0.1:{tls} ssl crt {dir}/tls.both backlog 4096
    option forwardfor
    http-request set-header X-Forwarded-Proto http
    unique-id-format %{{+X}}o%ci%cp%Ts%rt
    unique-id-header X-Request-Id
    use_backend app if {{ req.hdr(host) -i {host} {host}:{port} {host}:{tls} }}
backend app
    server one 127.0.0.1:{upstream} pool-max-conn 256
"""

CADDY = """
{{
    admin off
    auto_https off
    http_port {port}
    https_port {tls}
    grace_period 1s
}}
(app) {{
    reverse_proxy 127.0.0.1:{upstream} {{
        flush_interval -1
        transport http {{
            keepalive_idle_conns_per_host 256
        }}
    }}
}}
http://{host}:{port} {{
    import app
}}
https://:{tls} {{
    tls {dir}/tls.pem {dir}/tls.key
    import app
}}
"""


class Proxy:
    """One that runs; what it costs is read from /proc."""

    def __init__(self, stage, name, words, port, tls, env=None):
        self.name, self.port, self.tls = name, port, tls
        self.server = stage.spawn(name, "taskset", "-c", MEASURED, *words, env=env)
        stage.undo.callback(end, self.server)
        stage.answers(self.server, name, lambda: is_open(port))

    def processes(self):
        """It and its children."""
        found, pids = [], [self.server.pid]
        while pids:
            pid = pids.pop()
            found.append(pid)
            done = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
            pids += [int(child) for child in done.stdout.split()]
        return found

    def seconds(self):
        """Seconds of a processor that it has used."""
        total = 0
        for pid in self.processes():
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                fields = file.read().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def memory(self):
        """MiB that it holds, without what it shares."""
        total = 0
        for pid in self.processes():
            with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
                lines = dict(line.split(":", 1) for line in file.read().splitlines()[1:])
            total += sum(int(lines[part].split()[0]) for part in ("Private_Clean", "Private_Dirty"))
        return total / 1024


def write(stage, name, text):
    path = stage.path(name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def start_upstream(stage):
    """An app that answers at once; its port."""
    port = free_port()
    with open(stage.path("mib"), "wb") as file:
        file.write(os.urandom(1 << 20))
    os.chmod(stage.dir, 0o755)
    body = NGINX_UPSTREAM.format(port=port, dir=stage.dir)
    path = write(stage, "upstream.conf", NGINX.format(dir=stage.dir, name="upstream", body=body))
    server = stage.spawn("upstream", "taskset", "-c", OTHERS, "/usr/sbin/nginx", "-c", path)
    stage.undo.callback(end, server)
    stage.answers(server, "upstream", lambda: is_open(port))
    return port


def make_certificate(stage):
    stage.run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}",
        "-keyout", stage.path("tls.key"), "-out", stage.path("tls.pem"),
    )  # fmt: skip
    with open(stage.path("tls.both"), "wb") as both:
        for name in ("tls.pem", "tls.key"):
            with open(stage.path(name), "rb") as file:
                shutil.copyfileobj(file, both)


def start_rivals(stage, upstream):
    """All three, ready."""
    proxies = []
    for name, text, words in (
        ("nginx", None, ["/usr/sbin/nginx", "-c"]),
        ("haproxy", HAPROXY, ["/usr/sbin/haproxy", "-db", "-f"]),
        ("caddy", CADDY, ["/usr/bin/caddy", "run", "--adapter", "caddyfile", "--config"]),
    ):
        values = {"port": free_port(), "tls": free_port(), "upstream": upstream, "dir": stage.dir, "host": NAME}
        if text is None:
            text = NGINX.format(dir=stage.dir, name=name, body=NGINX_PROXY.format(**values))
        else:
            text = text.format(**values)
        env = os.environ | {"GOMAXPROCS": "1", "HOME": stage.home, "XDG_DATA_HOME": stage.home}
        path = write(stage, f"{name}.conf", text)
        proxies.append(Proxy(stage, name, [*words, path], values["port"], values["tls"], env))
    return proxies


class Ours(Proxy):
    """`paas proxy` alone, with us in the control plane's place."""

    def __init__(self, stage, upstream):
        self.upstream, self.version = upstream, 0
        data = stage.path("proxy-data")
        os.makedirs(data, mode=0o700)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(os.path.join(data, "proxy.sock"))
        self.listener.listen(4)
        stage.undo.callback(self.listener.close)
        port, tls = free_port(), free_port()
        words = [
            stage.paas, "proxy", "--data-dir", data, "--domain", "localhost",
            "--http-listen", f"127.0.0.1:{port}", "--https-listen", f"127.0.0.1:{tls}",
        ]  # fmt: skip
        super().__init__(stage, "ours", words, port, tls, os.environ | {"NO_COLOR": "1"})
        self.line, _ = self.listener.accept()
        stage.undo.callback(self.line.close)
        self.hear("hello")
        with open(stage.path("tls.pem"), encoding="utf-8") as chain, open(stage.path("tls.key"), encoding="utf-8") as key:
            certificate = {"names": [NAME], "chain": chain.read(), "key": key.read(), "fallback": True, "trusted": False}
        self.say({"certificates": {"version": 1, "certificates": [certificate]}})
        self.hear("certified")

    def say(self, message):
        text = json.dumps(message).encode()
        self.line.sendall(struct.pack(">I", len(text)) + text)

    def hear(self, kind):
        """The next message of a kind."""
        while True:
            length = struct.unpack(">I", self.read(4))[0]
            message = json.loads(self.read(length))
            if kind in message:
                return message[kind]

    def read(self, length):
        data = b""
        while len(data) < length:
            part = self.line.recv(length - len(data))
            if not part:
                raise Failure("paas proxy closed the line to the control plane.")
            data += part
        return data

    def route(self, app, host, release=1):
        target = {"address": f"127.0.0.1:{self.upstream}", "process": "web.1", "release": release}
        return {
            "app": app, "hosts": [host], "https": {"redirect": False, "hsts": 0}, "port": None,
            "release": release, "targets": [target], "outage": "H10",
        }  # fmt: skip

    def publish(self, others):
        """A whole table: the app that is asked, and as many others."""
        routes = {f"app{number}": self.route(f"app{number}", f"app{number}.localhost") for number in range(others)}
        routes["bench"] = self.route("bench", NAME)
        self.version += 1
        self.say({"table": {"version": self.version, "routes": routes}})
        self.hear("ack")

    def change(self, release):
        """Another release of the app, acknowledged."""
        self.version += 1
        routes = {"bench": self.route("bench", NAME, release)}
        self.say({"changes": {"from": self.version - 1, "version": self.version, "routes": routes}})
        self.hear("ack")


def load(stage, proxy, connections, seconds, *, path="/", tls=False, close=False):
    """wrk's requests per second, its p50 and p99 in ms, failures; and the processor seconds of the proxy."""
    scheme, port = ("https", proxy.tls) if tls else ("http", proxy.port)
    words = ["taskset", "-c", OTHERS, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    if close:
        words += ["-H", "Connection: close"]
    words += ["-H", f"Host: {NAME}", "-s", write(stage, "report.lua", REPORT)]
    before = proxy.seconds()
    done = stage.run(*words, f"{scheme}://127.0.0.1:{port}{path}")
    used = proxy.seconds() - before
    figures = json.loads(done.splitlines()[-1])
    if figures["failed"] > 0:
        raise Failure(f"{proxy.name}: {figures['failed']} requests failed:\n{done}")
    return figures | {"used": used}


REPORT = """
done = function(summary, latency, requests)
    local e = summary.errors
    io.write(string.format('{"requests": %d, "seconds": %f, "bytes": %d, "p50": %f, "p99": %f, "failed": %d}\\n',
        summary.requests, summary.duration / 1e6, summary.bytes, latency:percentile(50) / 1000,
        latency:percentile(99) / 1000, e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def hold(proxy, count):
    """So many idle connections that each had one answer."""
    held = []
    request = f"GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode()
    for number in range(count):
        # One address has a limit, and so many ports.
        one = socket.socket()
        one.bind((f"127.0.{1 + number // 500}.1", 0))
        one.connect(("127.0.0.1", proxy.port))
        one.sendall(request)
        one.recv(4096)
        held.append(one)
    return held


def settled(proxy):
    """Its memory after a moment."""
    last = proxy.memory()
    until(f"{proxy.name} to settle", lambda: abs(proxy.memory() - last) < 1, pause=0.5)
    return proxy.memory()
