"""The processes of the test: Redis, nginx and colm, each on a port of its own."""

import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
BIN = Path(os.environ.get("COLM_BIN", ROOT / "target/debug/colm")).absolute()
MINUTE = 60.0


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_port(port, process):
    end = time.monotonic() + MINUTE
    while time.monotonic() < end:
        assert process.poll() is None, f"{process.args} has ended with {process.returncode}"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(f"nothing listens on port {port}")


class Running:
    """A process that is killed at the end."""

    def __init__(self, process, port):
        self.process = process
        self.port = port

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait()


class Redis(Running):
    """A Redis that writes nothing to a disk."""

    def __init__(self, port=None):
        port = port or free_port()
        command = ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir())
        super().__init__(process, port)
        wait_for_port(port, process)
        self.url = f"redis://127.0.0.1:{port}"

    def command(self, *words):
        """The answer to a command, in the few types that the test needs."""
        with socket.create_connection(("127.0.0.1", self.port), MINUTE) as connection:
            encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
            message = b"*%d\r\n" % len(encoded)
            message += b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
            connection.sendall(message)
            return self.answer(connection.makefile("rb"))

    def answer(self, stream):
        kind, value = (line := stream.readline().rstrip(b"\r\n"))[:1], line[1:]
        if kind == b"$":
            return None if value == b"-1" else stream.read(int(value) + 2)[:-2]
        if kind == b"*":
            return [self.answer(stream) for _ in range(int(value))]
        assert kind in b"+:", line
        return int(value) if kind == b":" else value


class Colm(Running):
    """`colm serve` with one of the shipped models."""

    def __init__(self, *arguments, model="tiny-colm-air", port=0):
        command = [BIN, "serve", "-m", ROOT / "models" / model, "-p", str(port), *arguments]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        line = process.stderr.readline()
        found = re.search(r"://127\.0\.0\.1:(\d+)/", line)
        assert found, line + process.stderr.read()
        super().__init__(process, int(found[1]))
        self.url = f"http://127.0.0.1:{self.port}"
        # A full pipe would stop the server.
        threading.Thread(target=self.pass_on_log, daemon=True).start()

    def pass_on_log(self):
        for line in self.process.stderr:
            sys.stderr.write(f"colm {self.port}: {line}")

    def metric(self, name):
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=MINUTE) as response:
            text = response.read().decode()
        values = re.findall(rf"^colm:{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
        assert values, f"no {name} in {text}"
        return sum(map(float, values))

    def computed_tokens(self):
        """Prompt tokens that were in no tier of the prefix cache."""
        return self.metric("prefix_cache_queries_total") - self.metric("prefix_cache_hits_total")


def kv_store(*arguments):
    """The exit code and the output of `colm kv-store`."""
    ended = subprocess.run([BIN, "kv-store", *arguments], capture_output=True, text=True, timeout=MINUTE, check=False)
    return ended.returncode, ended.stdout


class Nginx(Running):
    """The proxy of deploy/kv-store/nginx.conf, on other ports."""

    def __init__(self, replicas):
        self.folder = tempfile.TemporaryDirectory(prefix="colm-nginx-")
        folder = Path(self.folder.name)
        text = (ROOT / "deploy/kv-store/nginx.conf").read_text()
        port = free_port()
        for old, new in [("8080", port), ("1234", replicas[0].port), ("1235", replicas[1].port)]:
            assert f":{old}" in text, old
            text = text.replace(f":{old}", f":{new}")
        text = text.replace("/tmp/colm-nginx", str(folder / "nginx"))
        (folder / "nginx.conf").write_text(text)
        process = subprocess.Popen(["nginx", "-e", "stderr", "-c", folder / "nginx.conf", "-g", "daemon off;"])
        super().__init__(process, port)
        wait_for_port(port, process)
        self.url = f"http://127.0.0.1:{port}"

    def kill(self):
        # A killed master leaves its workers.
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()
