"""A port on loopback that accepts connections until it is cut, and again when it is mended: what is monitored."""

from __future__ import annotations

import contextlib
import socket
import threading


class Port:
    """It accepts in a thread of its own and closes each connection at once. Context manager: cut at the end."""

    def __init__(self) -> None:
        self.number = 0
        self._socket: socket.socket | None = None
        self.mend()

    def __enter__(self) -> Port:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def mend(self) -> None:
        self._socket = opened = socket.create_server(("127.0.0.1", self.number), backlog=4096)
        self.number = opened.getsockname()[1]
        threading.Thread(target=self._accept, args=(opened,), daemon=True).start()

    def cut(self) -> None:
        """Refuse connections from now on."""
        if self._socket is not None:
            # Closing alone would leave it open for as long as the thread waits for a connection.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._socket = None

    @staticmethod
    def _accept(opened: socket.socket) -> None:
        while True:
            try:
                connection, _ = opened.accept()
            except OSError:
                return
            connection.close()
