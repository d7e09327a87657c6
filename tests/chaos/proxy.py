"""A wire that can be cut: a proxy between a process and its Redis."""

import socket
import threading
from contextlib import suppress


class Wire:
    """Passes bytes on, until it is cut (connections end) or dead (they stay, and nothing comes through)."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._passes = threading.Event()
        self._passes.set()
        self._cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Ends all connections, and every new one at once."""
        self._cut = True
        for each in list(self._open):
            _end(each)

    def die(self) -> None:
        """Nothing comes through any more, and nobody is told."""
        self._passes.clear()

    def mend(self) -> None:
        """What was sent into a dead wire is lost, with its connections."""
        if not self._passes.is_set():
            self.cut()
        self._cut = False
        self._passes.set()

    def close(self) -> None:
        self._listener.close()
        self.cut()
        self._passes.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._cut:
                    _end(near)
                    continue
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open |= {near, far}
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(2**16):
                self._passes.wait()
                sink.sendall(data)
        for each in (source, sink):
            _end(each)
        self._open -= {source, sink}


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
