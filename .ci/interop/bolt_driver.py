#!/usr/bin/env python3
"""The official Python driver of Neo4j, by neo4j://, against our coordinators and instances: managed writes go to MAIN
and reads to replicas, MAIN is killed, and the driver goes on unaided.

usage: bolt_driver.py PATH-OF-firedrill
exit: 0 it works, 1 it does not, 77 the driver is not installed
"""
import logging
import socket
import sys
import time

from nodes import Nodes, eventually

try:
    import neo4j
except ImportError:
    print("the neo4j driver is not installed: pip install neo4j")
    sys.exit(77)

APPEND = "MERGE (n {id: $id}) SET n.items = coalesce(n.items, []) + [$value]"
READ = "MATCH (n {id: $id}) RETURN n.value, n.items"


def resolve_names_of(nodes):
    """The names that routing tables hold, as the DNS of a real deployment would tell them."""
    known = {f"{name}.example.com": nodes.host(name) for name in nodes.addresses}
    real = socket.getaddrinfo
    socket.getaddrinfo = lambda host, *rest, **more: real(known.get(host, host), *rest, **more)


def main(program):
    with Nodes(program, "memgraph/main-killed") as nodes:
        resolve_names_of(nodes)
        logging.getLogger("neo4j").setLevel(logging.CRITICAL)
        driver = neo4j.GraphDatabase.driver("neo4j://coordinator-1.example.com:7687", auth=("user", "password"))
        errors = (OSError, neo4j.exceptions.DriverError, neo4j.exceptions.Neo4jError)
        acknowledged, servers = [], {"write": set(), "read": set()}

        def write(value):
            def work(transaction):
                result = transaction.run(APPEND, id=1, value=value)
                servers["write"].add(result.consume().server.address[0])
            with driver.session(database="memgraph") as session:
                session.execute_write(work)
            acknowledged.append(value)
            return True

        def read():
            def work(transaction):
                result = transaction.run(READ, id=1)
                record = result.single()
                servers["read"].add(result.consume().server.address[0])
                return record
            with driver.session(database="memgraph") as session:
                return session.execute_read(work)

        eventually("first write", lambda: write(0), errors=errors)
        for value in range(1, 50):
            write(value)
        main_before = servers["write"].copy()
        for _ in range(20):
            found = read()
        if len(main_before) != 1 or main_before & servers["read"]:
            raise SystemExit(f"FAILED: writes went to {servers['write']}, reads to {servers['read']}")
        print(f"writes to MAIN {main_before}, reads from {servers['read']}")

        (address,) = main_before
        name = next(name for name in nodes.addresses if nodes.host(name) == address)
        nodes.kill(name)
        killed = time.monotonic()
        # One managed transaction, without any help: the driver itself goes on until there is a new MAIN.
        write(50)
        print(f"{name} killed; the managed write that met it returned after {time.monotonic() - killed:.2f} s")
        for value in range(51, 100):
            write(value)
        new = servers["write"] - main_before
        seen = eventually("read of everything", lambda: read_all(read, len(acknowledged)), errors=errors)
        lost = set(acknowledged) - set(seen)
        print(f"new MAIN {new}; {len(acknowledged)} writes acknowledged, {len(lost)} lost, "
              f"{len(seen) - len(set(seen))} twice")
        refused = refusal(driver)
        print(f"a query beyond the subset: {refused}")
        driver.close()
        return 1 if lost or not new or "subset" not in refused else 0


def read_all(read, count):
    found = read()
    items = found["n.items"]
    return items if items is not None and len(items) >= count else None


def refusal(driver):
    try:
        with driver.session(database="memgraph") as session:
            session.execute_write(lambda transaction: transaction.run("CALL db.labels()").consume())
    except neo4j.exceptions.Neo4jError as error:
        return f"{error.code}: {error.message}"
    return "accepted"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
