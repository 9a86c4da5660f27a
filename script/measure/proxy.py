"""`paas proxy` beside nginx, haproxy and Caddy: processor time, latency, memory.

In turns, on the same processor, before the same upstream. SECONDS_EACH=n seconds for each run (5).
A figure is of the median of all rounds.
"""

import os
import resource
import statistics

from basics import detail, now, say
from rivals import Ours, hold, load, make_certificate, settled, start_rivals, start_upstream

SECONDS = int(os.environ.get("SECONDS_EACH", "5"))
ROUTES = 10_000
IDLE = 5_000
CHANGES = 200

# What is asked, and what is told of it: (title, unit, of one result).
RUNS = {
    "small": ({"connections": 64}, "µs of processor per request", lambda one: one["used"] / one["requests"] * 1e6),
    "mib": (
        {"connections": 8, "path": "/mib"},
        "processor seconds per GB",
        lambda one: one["used"] / one["bytes"] * 1e9,
    ),
    "tls": ({"connections": 64, "tls": True}, "µs per request in TLS", lambda one: one["used"] / one["requests"] * 1e6),
    "handshake": (
        {"connections": 16, "tls": True, "close": True},
        "µs per TLS handshake with a request",
        lambda one: one["used"] / one["requests"] * 1e6,
    ),
}


def measure_runs(stage, proxies, rounds):
    figures = []
    for name, (how, unit, of) in RUNS.items():
        say(f"{name}: {unit}")
        for proxy in proxies:
            load(stage, proxy, how["connections"], 1, **{key: how[key] for key in how if key != "connections"})
        results = {proxy.name: [] for proxy in proxies}
        for _ in range(rounds):
            for proxy in proxies:
                results[proxy.name].append(load(stage, proxy, seconds=SECONDS, **how))
        costs = {}
        for proxy, all_of in results.items():
            costs[proxy] = statistics.median(map(of, all_of))
            rate = statistics.median(one["requests"] / one["seconds"] for one in all_of)
            p50, p99 = (statistics.median(one[part] for one in all_of) for part in ("p50", "p99"))
            amount = statistics.median(one["bytes"] / one["seconds"] for one in all_of) / 1e6
            detail(f"{proxy:8}{costs[proxy]:10.2f}{rate:10.0f}/s  p50 {p50:.2f} ms  p99 {p99:.2f} ms {amount:8.0f} MB/s")
        figures.append((f"proxy-{name}", costs["ours"] / costs["nginx"], f"{unit}, ours / nginx"))
        if name == "small":
            p99 = {proxy: statistics.median(one["p99"] for one in all_of) for proxy, all_of in results.items()}
            figures.append(("proxy-p99", p99["ours"] / p99["nginx"], "p99, ours / nginx"))
    return figures


def measure_routes(stage, ours, rounds):
    """Ten routes and ten thousand, and how soon a change of one of these is in force."""
    say(f"10 routes, and {ROUTES}")
    costs = {10: [], ROUTES: []}
    for _ in range(rounds):
        for count, all_of in costs.items():
            ours.publish(count)
            one = load(stage, ours, 64, SECONDS)
            all_of.append(one["used"] / one["requests"] * 1e6)
    few, many = (statistics.median(costs[count]) for count in (10, ROUTES))
    detail(f"{few:.2f} µs per request, {many:.2f} µs")
    times = []
    for number in range(CHANGES):
        begin = now()
        ours.change(number + 2)
        times.append(now() - begin)
    times.sort()
    detail(f"a change is acknowledged after {times[CHANGES // 2]:.2f} ms, at p99 {times[CHANGES * 99 // 100]:.2f} ms")
    ours.publish(10)
    return [
        ("proxy-routes", many / few, f"processor time per request with {ROUTES} routes / with 10"),
        ("proxy-change", times[CHANGES // 2], f"ms until a change is in force with {ROUTES} routes / the 1 ms allowed"),
    ]


def measure_memory(proxies):
    say(f"memory: idle, and with {IDLE} connections")
    figures = {}
    for proxy in proxies:
        idle = settled(proxy)
        held = hold(proxy, IDLE)
        full = settled(proxy)
        for one in held:
            one.close()
        figures[proxy.name] = full
        detail(f"{proxy.name:8}{idle:8.1f} MiB, {full:8.1f} MiB: {(full - idle) * 1024 / IDLE:.1f} KiB for each")
    return [("proxy-memory", figures["ours"] / figures["nginx"], f"memory with {IDLE} connections, ours / nginx")]


def measure_proxy(stage, rounds):
    # Everything that is started from here on inherits it.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    make_certificate(stage)
    upstream = start_upstream(stage)
    ours = Ours(stage, upstream)
    ours.publish(10)
    proxies = [ours, *start_rivals(stage, upstream)]
    figures = measure_memory(proxies)
    figures += measure_runs(stage, proxies, rounds)
    return figures + measure_routes(stage, ours, rounds)
