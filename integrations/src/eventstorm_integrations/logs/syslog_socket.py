"""Takes syslog messages at a UDP or TCP address: for programs that log to no file, or on other hosts.

Each datagram is a message (RFC 5426). On TCP a message has its length in front, or ends with its line (RFC 6587), and
each may be as in RFC 3164 or 5424; `syslog` reads those.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import selectors
import socket
from typing import Any

from eventstorm.errors import SettingError, StartError

__all__ = ["SyslogSocket", "check_address"]

_ADDRESS = re.compile(r"(udp|tcp)://(?:\[([^\]]*)\]|([^:/\[\]]*)):(\d{1,5})\Z", re.ASCII)
# What arrives while events are being sent waits in the kernel.
_RECEIVE_BUFFER_BYTES = 4 * 2**20
_MOST_MESSAGES = 2000
_MOST_CONNECTIONS = 1000
_CHUNK_BYTES = 64 * 1024
_SHOWN_BYTES = 1000


def check_address(value: Any, place: str) -> tuple[str, str, int]:
    """Return the protocol, the host and the port of an address such as ``udp://127.0.0.1:5140``.

    Raises:
        SettingError: it is none.
    """
    found = _ADDRESS.match(value)
    if found is None or int(found[4]) > 65_535:
        raise SettingError(f"{place}: {value!r} is no address; write udp://127.0.0.1:5140 or tcp://127.0.0.1:5140")
    return found[1], found[2] or found[3], int(found[4])


class SyslogSocket:
    """An address at which messages arrive. Nothing waits: `fileno` can be waited for, and `read` returns what is there.

    Args:
        address: as `check_address` takes it; port 0 stands for one that is free.
        max_message_bytes: a longer message is not returned, but counted.
        insecure: permit an address that other hosts reach; whoever reaches it can say anything.

    Raises:
        SettingError: other hosts reach the address, and that is not permitted.
        StartError: the address cannot be had.
    """

    def __init__(self, address: str, max_message_bytes: int, *, insecure: bool = False) -> None:
        protocol, host, port = check_address(address, "logs.syslog")
        if not insecure and not _is_loopback(host):
            raise SettingError(
                f"logs.syslog: other hosts reach {address}, and nothing tells who they are; "
                "write a loopback address, or permit it with --insecure"
            )
        self.ended = False
        self._most = max_message_bytes
        self._too_long: list[str] = []
        self._connections: dict[socket.socket, _Framing] = {}
        self._selector = selectors.DefaultSelector()
        try:
            kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
            family, _, _, _, place = socket.getaddrinfo(host or "0.0.0.0", port, type=kind)[0]
            self._socket = socket.socket(family, kind)
            try:
                self._listen(place, stream=protocol == "tcp")
            except OSError:
                self._socket.close()
                raise
        except OSError as error:
            self._selector.close()
            raise StartError(f"logs.syslog: cannot listen at {address}: {error.strerror or error}") from None
        self._is_stream = protocol == "tcp"
        name = self._socket.getsockname()
        self.name = f"{protocol}://[{name[0]}]:{name[1]}" if ":" in name[0] else f"{protocol}://{name[0]}:{name[1]}"
        self._selector.register(self._socket, selectors.EVENT_READ)

    def _listen(self, place: Any, *, stream: bool) -> None:
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self._socket.setblocking(False)
        if stream:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(place)
        if stream:
            self._socket.listen(128)

    def fileno(self) -> int:
        """Return what can be waited for."""
        return self._selector.fileno()

    def read(self) -> list[str]:
        """Return the messages that are there, not more than some thousands at once."""
        found: list[str] = []
        for key, _ in self._selector.select(0):
            if key.fileobj is not self._socket:
                self._receive(key.fileobj, found)  # type: ignore[arg-type]  # only sockets are registered
            elif self._is_stream:
                self._accept()
            else:
                self._receive_datagrams(found)
        return found

    def too_long(self) -> list[str]:
        """Return how the messages begin that were too long, since this was last asked."""
        found, self._too_long = self._too_long, []
        return found

    def close(self) -> None:
        """Close all that is open."""
        for each in [*self._connections, self._socket]:
            each.close()
        self._selector.close()

    def _receive_datagrams(self, found: list[str]) -> None:
        with contextlib.suppress(BlockingIOError):
            while len(found) < _MOST_MESSAGES:
                data = self._socket.recv(65_536)
                if len(data) > self._most:
                    self._too_long.append(_text(data[:_SHOWN_BYTES]))
                else:
                    # One message, whatever line ends are in it: else a client could make up others.
                    found.append(_text(data.rstrip(b"\r\n\0")))

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._socket.accept()
            if len(self._connections) >= _MOST_CONNECTIONS:
                connection.close()
                return
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._connections[connection] = _Framing(self._most, self._too_long)
            self._selector.register(connection, selectors.EVENT_READ)

    def _receive(self, connection: socket.socket, found: list[str]) -> None:
        framing = self._connections[connection]
        try:
            data = connection.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        framing.too_long = self._too_long
        found += framing.feed(data)
        if not data or framing.broken:
            self._selector.unregister(connection)
            connection.close()
            del self._connections[connection]


class _Framing:
    """Cuts one connection's bytes into messages; each tells by its first byte how it is framed."""

    def __init__(self, most: int, too_long: list[str]) -> None:
        self._most = most
        self._data = b""
        self._at = 0
        self._skip_bytes = 0
        self._skip_line = False
        self.too_long = too_long
        self.broken = False
        """Whether nothing that comes after can be understood."""

    def feed(self, data: bytes) -> list[str]:
        """Return the messages that end in these bytes; the last one ends with the connection (no bytes)."""
        found: list[str] = []
        if not data and not self._skip_line and self._data and not self._data[:1].isdigit():
            found.append(_text(self._data))
        self._data += data
        self._at = 0  # cut off once at the end, since a client may send very many messages of no length
        while self._at < len(self._data) and not self.broken:
            if self._skip_bytes:
                skipped = min(self._skip_bytes, len(self._data) - self._at)
                self._at, self._skip_bytes = self._at + skipped, self._skip_bytes - skipped
            elif self._data[self._at : self._at + 1].isdigit() and not self._skip_line:
                if not self._counted(found):
                    break
            elif not self._line(found):
                break
        self._data = self._data[self._at :]
        return found

    def _counted(self, found: list[str]) -> bool:
        """Take a message with its length in front; tell whether there was a whole one."""
        begin = self._data[self._at : self._at + 11]
        length, space, _ = begin.partition(b" ")
        if not space:
            self.broken = len(begin) > 10 or not begin.isdigit()
            return False
        if not length.isdigit():
            self.broken = True
            return False
        size = int(length)
        at = self._at + len(length) + 1
        if size > self._most:
            self.too_long.append(_text(self._data[at : at + _SHOWN_BYTES]))
            self._at, self._skip_bytes = at, size
            return True
        if len(self._data) < at + size:
            return False
        message = self._data[at : at + size].rstrip(b"\r\n\0")
        self._at = at + size
        if message:
            found.append(_text(message))
        return True

    def _line(self, found: list[str]) -> bool:
        """Take the messages that end with their lines; tell whether there was a whole one."""
        end = self._data.find(b"\n", self._at)
        if end < 0:
            if len(self._data) - self._at > self._most:
                if not self._skip_line:
                    self.too_long.append(_text(self._data[self._at : self._at + _SHOWN_BYTES]))
                self._at, self._skip_line = len(self._data), True
            return False
        message = self._data[self._at : end].rstrip(b"\r\0")
        self._at = end + 1
        if self._skip_line:
            self._skip_line = False
        elif len(message) > self._most:
            self.too_long.append(_text(message[:_SHOWN_BYTES]))
        elif message:
            found.append(_text(message))
        return True


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
