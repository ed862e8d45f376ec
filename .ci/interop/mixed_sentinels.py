#!/usr/bin/env python3
"""Real sentinels and ours over our data nodes: two of ours with one real, then three real ones. The primary is killed;
all sentinels must name the same new primary, which must take writes.

usage: mixed_sentinels.py PATH-OF-firedrill
exit: 0 it works, 1 it does not, 77 redis-py or redis-server is not installed
"""
import shutil
import subprocess
import sys
import tempfile
import time

from redis_py import GROUP, eventually, free_ports

try:
    import redis
except ImportError:
    sys.exit(77)


def drill(program, real):
    folder = tempfile.mkdtemp(prefix="firedrill-mixed-")
    ports = free_ports(6)
    data, sentinels = ports[:3], ports[3:]
    processes = {}

    def start(port, command):
        processes[port] = subprocess.Popen(command, stdout=subprocess.DEVNULL,
                                           stderr=open(f"{folder}/{port}.log", "w"))

    def ours(port, *args):
        start(port, [program, "node", "--listen", f"127.0.0.1:{port}", "--data", f"{folder}/{port}", *args])

    try:
        primary = f"127.0.0.1:{data[0]}"
        ours(data[0], "--role", "data")
        for port in data[1:]:
            ours(port, "--role", "data", "--follow", primary)
        for port in sentinels[real:]:
            ours(port, "--role", "sentinel", "--primary", primary, "--quorum", "2",
                 "--down-after", "1s", "--failover-timeout", "6s")
        for port in sentinels[:real]:
            with open(f"{folder}/{port}.conf", "w") as conf:
                conf.write(f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
                           f"sentinel monitor {GROUP} 127.0.0.1 {data[0]} 2\n"
                           f"sentinel down-after-milliseconds {GROUP} 1000\n"
                           f"sentinel failover-timeout {GROUP} 6000\n")
            start(port, ["redis-server", f"{folder}/{port}.conf", "--sentinel"])

        def entry(port):
            reply = redis.Redis(port=port).execute_command("SENTINEL", "MASTERS")
            found = reply[GROUP] if isinstance(reply, dict) else reply[0]
            return {(key.decode() if isinstance(key, bytes) else key): value for key, value in found.items()}

        def complete(port):
            found = entry(port)
            return int(found["num-slaves"]) == 2 and int(found["num-other-sentinels"]) == 2

        for port in sentinels:
            eventually(f"sentinel {port} that knows all", lambda: complete(port))
        redis.Redis(port=data[0]).set("k1", 1)
        time.sleep(0.5)
        processes[data[0]].kill()
        killed = time.monotonic()
        names = set()

        def agreed():
            names.clear()
            for port in sentinels:
                reply = redis.Redis(port=port).execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP)
                names.add(int(reply[1]))
            return len(names) == 1 and names.isdisjoint({data[0]})

        eventually("agreement on a new primary", agreed)
        new = names.pop()
        eventually("write to the new primary", lambda: redis.Redis(port=new).set("k2", 2))
        kept = redis.Redis(port=new).get("k1") == b"1"
        print(f"{3 - real} of ours and {real} real: new primary after {time.monotonic() - killed:.2f} s, "
              f"earlier write {'kept' if kept else 'LOST'}")
        return kept
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if shutil.which("redis-server") is None:
        sys.exit(77)
    results = [drill(sys.argv[1], real) for real in (1, 3)]
    sys.exit(0 if all(results) else 1)
