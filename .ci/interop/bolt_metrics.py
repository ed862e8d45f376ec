#!/usr/bin/env python3
"""curl as a probe, and Prometheus' own parser, against the metrics servers of our coordinators and instances: roles are
known, a failover is seen, and every page can be scraped.

usage: bolt_metrics.py PATH-OF-firedrill
exit: 0 it works, 1 it does not, 77 curl or the package prometheus_client is not installed
"""
import shutil
import subprocess
import sys

from nodes import Nodes, eventually

try:
    from prometheus_client.parser import text_string_to_metric_families as families_of
except ImportError:
    families_of = None
PORT = 9091


def curl(nodes, name, path):
    """Status and body; status 0 where nobody answers."""
    url = f"http://{nodes.host(name)}:{PORT}{path}"
    command = ["curl", "-sS", "--max-time", "5", "-w", "\n%{http_code}", url]
    result = subprocess.run(command, capture_output=True, text=True)
    body, _, status = result.stdout.rpartition("\n")
    return int(status or 0), body


def ready(nodes, role):
    """Who a probe would send the traffic of this role to: `curl --fail` says yes."""
    return [name for name in nodes.addresses if curl(nodes, name, f"/ready/{role}")[0] == 200]


def scrape(nodes, name):
    status, body = curl(nodes, name, "/metrics")
    if status != 200:
        raise SystemExit(f"FAILED: {name} gave {status} for its metrics")
    samples = {}
    for family in families_of(body):
        if family.type not in ("counter", "gauge"):
            raise SystemExit(f"FAILED: {name} has a family without a type: {family}")
        for sample in family.samples:
            samples[(sample.name, *sorted(sample.labels.values()))] = sample.value
    return samples


def main(program):
    with Nodes(program, "memgraph/main-killed") as nodes:
        def settled():
            roles = {role: ready(nodes, role) for role in ("main", "replica", "leader", "follower")}
            return roles if [len(who) for who in roles.values()] == [1, 2, 1, 2] else None

        before = eventually("cluster in which everyone is ready", settled)
        print(f"ready: {before}")
        pages = {name: scrape(nodes, name) for name in nodes.addresses}
        (old,), (leader,) = before["main"], before["leader"]
        if pages[old][("memgraph_is_main",)] != 1 or pages[leader][("memgraph_successful_failovers_total",)] != 0:
            raise SystemExit(f"FAILED: {pages[old]} {pages[leader]}")
        nodes.kill(old)
        new = eventually("new main", lambda: [name for name in ready(nodes, "main") if name != old])
        failovers = sum(scrape(nodes, name).get(("memgraph_successful_failovers_total",), 0)
                        for name in nodes.addresses if name.startswith("coordinator-"))
        print(f"{old} killed: a probe gets {curl(nodes, old, '/ready')[0]} there, main is {new}, "
              f"{failovers:.0f} failover counted, {sum(map(len, pages.values()))} samples parsed")
        nodes.start(old)
        after = eventually("old main that is ready as a replica", settled)
        return 0 if after["main"] == new and old in after["replica"] and failovers >= 1 else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if families_of is None or shutil.which("curl") is None:
        print("curl or the Python package prometheus_client is not installed")
        sys.exit(77)
    sys.exit(main(sys.argv[1]))
