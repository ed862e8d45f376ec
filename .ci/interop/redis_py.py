#!/usr/bin/env python3
"""redis-py's Sentinel client against `firedrill node` processes: it writes through a failover and reads all back.

usage: redis_py.py PATH-OF-firedrill
exit: 0 it works, 1 it does not, 77 redis-py is not installed
"""
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

try:
    import redis
    from redis.sentinel import Sentinel
except ImportError:
    print("redis-py is not installed: pip install redis")
    sys.exit(77)

GROUP = "mymaster"


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def eventually(what, attempt, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if attempt():
                return
        except (redis.RedisError, OSError):
            pass
        time.sleep(0.05)
    raise SystemExit(f"FAILED: within {seconds} s there was no {what}")


def main(program):
    folder = tempfile.mkdtemp(prefix="firedrill-interop-")
    ports = free_ports(6)
    data, sentinels = ports[:3], ports[3:]
    primary = f"127.0.0.1:{data[0]}"
    processes = {}

    def start(port, *args):
        command = [program, "node", "--listen", f"127.0.0.1:{port}", "--data", f"{folder}/{port}", *args]
        processes[port] = subprocess.Popen(command, stderr=open(f"{folder}/{port}.log", "w"))

    try:
        start(data[0], "--role", "data")
        for port in data[1:]:
            start(port, "--role", "data", "--follow", primary)
        for port in sentinels:
            start(port, "--role", "sentinel", "--primary", primary, "--quorum", "2",
                  "--down-after", "1s", "--failover-timeout", "6s")

        def complete(port):
            entry = redis.Redis(port=port).execute_command("SENTINEL", "MASTERS")
            entry = entry[GROUP] if isinstance(entry, dict) else entry[0]
            value = lambda name: int(entry[name] if name in entry else entry[name.encode()])
            return value("num-slaves") == 2 and value("num-other-sentinels") == 2

        for port in sentinels:
            eventually(f"sentinel {port} that knows all", lambda: complete(port))

        for protocol in (2, 3):
            client = Sentinel([("127.0.0.1", port) for port in sentinels], protocol=protocol)
            print(f"RESP{protocol}: primary {client.discover_master(GROUP)}, "
                  f"replicas {sorted(client.discover_slaves(GROUP))}")
        master = client.master_for(GROUP, socket_timeout=0.5)
        acknowledged = []

        def write(number):
            master.set(f"k{number}", number)
            acknowledged.append(number)
            return True

        for number in range(200):
            eventually("write before the failure", lambda: write(number))
        time.sleep(0.3)
        processes[data[0]].kill()
        killed = time.monotonic()
        eventually("write after the failure", lambda: write(200))
        print(f"first acknowledged write {time.monotonic() - killed:.2f} s after SIGKILL")
        for number in range(201, 400):
            eventually("write after the failure", lambda: write(number))
        lost = [number for number in acknowledged if master.get(f"k{number}") != str(number).encode()]
        print(f"{len(acknowledged)} writes acknowledged, {len(lost)} lost")

        processes[data[0]].wait()
        start(data[0], "--role", "data", "--follow", primary)
        eventually("old primary that follows the new one",
                   lambda: redis.Redis(port=data[0]).role()[0] == b"slave")
        print("the old primary returned as a replica")
        survivors = [port for port in processes]
        for port in survivors:
            processes[port].terminate()
        codes = [processes[port].wait(timeout=20) for port in survivors]
        print(f"SIGTERM: exit codes {codes}")
        return 1 if lost or any(codes) else 0
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        if os.environ.get("KEEP"):
            print(f"logs in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
