"""The nodes of a scenario's system as processes of their own, for real clients."""
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time


def free_network():
    """A number N such that nobody uses 127.N.0.0/16."""
    for number in range(100, 250):
        try:
            socket.create_server((f"127.{number}.255.254", 1 << 15)).close()
            return number
        except OSError:
            pass
    raise SystemExit("FAILED: all loopback networks are in use")


def eventually(what, attempt, seconds=60, errors=(OSError,)):
    end = time.monotonic() + seconds
    last = None
    while time.monotonic() < end:
        try:
            result = attempt()
            if result:
                return result
        except errors as error:
            last = error
        time.sleep(0.05)
    raise SystemExit(f"FAILED: within {seconds} s there was no {what} ({last})")


class Nodes:
    def __init__(self, program, scenario):
        self.program, self.scenario = program, scenario
        self.network = str(free_network())
        self.folder = tempfile.mkdtemp(prefix="firedrill-interop-")
        listed = subprocess.run(self.command(), check=True, capture_output=True, text=True).stdout
        self.addresses = dict(line.split() for line in listed.splitlines())
        self.processes = {}

    def command(self):
        return [self.program, "node", "--of", self.scenario, "--network", self.network]

    def host(self, name):
        return self.addresses[name].rsplit(":", 1)[0]

    def port(self, name):
        return int(self.addresses[name].rsplit(":", 1)[1])

    def start(self, name):
        command = [*self.command(), "--name", name, "--data", f"{self.folder}/{name}"]
        self.processes[name] = subprocess.Popen(command, stderr=open(f"{self.folder}/{name}.log", "a"))

    def kill(self, name):
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def __enter__(self):
        for name in self.addresses:
            self.start(name)
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()
            process.wait()
        if os.environ.get("KEEP"):
            print(f"logs in {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
