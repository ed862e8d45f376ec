#!/usr/bin/env python3
"""redis-cli and real replicas: redis-cli talks to our nodes, alone and in a cluster; a real replica syncs from our
primary, and ours from a real one; redis-py's and redis-cli's cluster clients go through a failover of our cluster.

usage: redis_nodes.py PATH-OF-firedrill
exit: 0 it works, 1 it does not, 77 redis-py, redis-server or redis-cli is not installed
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time

from nodes import Nodes, eventually

try:
    import redis
    from redis.cluster import RedisCluster
except ImportError:
    print("redis-py is not installed: pip install redis")
    sys.exit(77)

from redis_py import free_ports

ERRORS = (redis.RedisError, OSError)


def cli(port, *words, host="127.0.0.1", cluster=False):
    command = ["redis-cli", *(["-c"] if cluster else []), "-h", host, "-p", str(port), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()


def expect(what, found, wanted):
    if found != wanted:
        raise SystemExit(f"FAILED: {what}: {found!r}, not {wanted!r}")


def replicas(program):
    """redis-cli at a data node; replication between ours and real ones, in both directions."""
    folder = tempfile.mkdtemp(prefix="firedrill-replicas-")
    ours, theirs, theirs_of_ours, ours_of_theirs = free_ports(4)
    running = []

    def start(*command):
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def real(port, *more):
        os.mkdir(f"{folder}/{port}")
        start("redis-server", "--port", str(port), "--save", "", "--dir", f"{folder}/{port}",
              "--repl-diskless-sync-delay", "0", *more)

    def node(port, *more):
        start(program, "node", "--role", "data", "--listen", f"127.0.0.1:{port}", "--data", f"{folder}/{port}", *more)

    try:
        node(ours)
        real(theirs)
        for port in (ours, theirs):
            eventually(f"server at {port}", lambda: redis.Redis(port=port).ping(), errors=ERRORS)
        expect("PING", cli(ours, "PING"), "PONG")
        expect("SET", cli(ours, "SET", "greeting", "hello world"), "OK")
        expect("GET", cli(ours, "GET", "greeting"), "hello world")
        expect("RPUSH", cli(ours, "RPUSH", "list", "a", "b"), "2")
        expect("LRANGE", cli(ours, "LRANGE", "list", "0", "-1"), "a\nb")
        if "role:master" not in cli(ours, "INFO", "replication"):
            raise SystemExit("FAILED: INFO does not tell the role")
        redis.Redis(port=theirs).set("greeting", "from the real one")
        print("redis-cli: PING, SET, GET, RPUSH, LRANGE, INFO")

        real(theirs_of_ours, "--replicaof", "127.0.0.1", str(ours))
        node(ours_of_theirs, "--follow", f"127.0.0.1:{theirs}")
        for primary, replica, what in ((ours, theirs_of_ours, "a real replica of our primary"),
                                       (theirs, ours_of_theirs, "our replica of a real primary")):
            first, second = redis.Redis(port=primary), redis.Redis(port=replica)
            eventually(f"snapshot at {what}", lambda: second.get("greeting") == first.get("greeting"), errors=ERRORS)
            for number in range(1000):
                first.set(f"k{number}", number)
            eventually(f"stream at {what}", lambda: second.get("k999") == b"999", errors=ERRORS)
            eventually("acknowledged offset", lambda: first.execute_command("WAIT", 1, 5000) == 1, errors=ERRORS)
            print(f"{what}: snapshot, stream, acknowledgements")
    finally:
        for process in running:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def cluster(program):
    """Cluster clients through a failover."""
    with Nodes(program, "cluster/primary-killed") as nodes:
        host, port = nodes.host("node-2"), nodes.port("node-2")
        client = eventually("cluster", lambda: RedisCluster(host=host, port=port, socket_timeout=1), errors=(Exception,))
        acknowledged = []

        def write(number):
            client.set(f"key-{number}", number)
            acknowledged.append(number)
            return True

        for number in range(300):
            eventually("write before the failure", lambda: write(number), errors=ERRORS)
        expect("redis-cli -c SET", cli(port, "SET", "by-cli", "1", host=host, cluster=True), "OK")
        time.sleep(0.5)
        nodes.kill("node-1")
        killed = time.monotonic()
        # The shard of node-1 holds slots 0 to 5460; this key is one of them.
        slot_key = next(f"probe-{n}" for n in range(100) if client.keyslot(f"probe-{n}") <= 5460)
        eventually("write to the failed shard", lambda: client.set(slot_key, 1), errors=ERRORS)
        print(f"redis-py: first write to the failed shard {time.monotonic() - killed:.2f} s after SIGKILL")
        for number in range(300, 600):
            eventually("write after the failure", lambda: write(number), errors=ERRORS)
        lost = [n for n in acknowledged if client.get(f"key-{n}") != str(n).encode()]
        by_cli = eventually("redis-cli -c", lambda: cli(port, "SET", slot_key, "2", host=host, cluster=True) == "OK")
        expect("redis-cli -c GET", cli(port, "GET", slot_key, host=host, cluster=True), "2")
        print(f"{len(acknowledged)} writes acknowledged, {len(lost)} lost; redis-cli -c follows: {by_cli}")
        return not lost


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if not (shutil.which("redis-server") and shutil.which("redis-cli")):
        sys.exit(77)
    replicas(sys.argv[1])
    sys.exit(0 if cluster(sys.argv[1]) else 1)
