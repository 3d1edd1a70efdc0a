"""Log files, compressed or not, as bytes to read."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from types import TracebackType
from typing import IO, cast

from eventstorm.errors import SettingError

__all__ = ["LogFile"]

_SKIP_BYTES = 2**20


class LogFile:
    """A file that is read from its begin to its end, decompressed if its name says that it is compressed.

    Raises:
        OSError: it cannot be read.
        SettingError: what could decompress it is not installed.
    """

    def __init__(self, path: str) -> None:
        self._ahead = b""
        self._raw = open(path, "rb", buffering=0)  # noqa: SIM115  # `close` closes it
        try:
            self._reader = _reader(path, self._raw)
            self.grows = self._reader is self._raw
            """Whether it is a file that programs write to: it is not compressed."""
        except BaseException:
            self._raw.close()
            raise

    def read(self, size_bytes: int) -> bytes:
        """Return at most so many bytes, none at the end.

        Raises:
            OSError: it cannot be read, or is damaged or cut off where it is compressed.
        """
        if self._ahead:
            ahead, self._ahead = self._ahead[:size_bytes], self._ahead[size_bytes:]
            return ahead
        return self._read(size_bytes)

    def _read(self, size_bytes: int) -> bytes:
        try:
            if self.grows:
                return self._raw.read(size_bytes)
            # Not `read`, which goes on until it has so much, and throws that away where it finds damage.
            return cast("gzip.GzipFile", self._reader).read1(size_bytes)
        except (EOFError, zlib.error, ValueError, gzip.BadGzipFile) as error:
            raise OSError(f"damaged: {error}") from error
        except Exception as error:
            if isinstance(error, OSError) or type(error).__name__ != "ZstdError":
                raise
            raise OSError(f"damaged: {error}") from error

    def head(self, size_bytes: int) -> bytes:
        """Return the first bytes, as they are now; call it before anything is read if the file is compressed.

        Raises:
            OSError: as `read`.
        """
        if self.grows:
            return os.pread(self._raw.fileno(), size_bytes, 0)
        while len(self._ahead) < size_bytes and (more := self._read(size_bytes)):
            self._ahead += more
        return self._ahead[:size_bytes]

    def skip(self, size_bytes: int) -> None:
        """Go on so many bytes later; earlier, if it is negative, only where the file is not compressed.

        Raises:
            OSError: as `read`.
        """
        if self.grows:
            self._raw.seek(size_bytes, os.SEEK_CUR)
            return
        while size_bytes > 0 and (skipped := self.read(min(size_bytes, _SKIP_BYTES))):
            size_bytes -= len(skipped)

    def fileno(self) -> int:
        """Return what can be waited for."""
        return self._raw.fileno()

    def status(self) -> os.stat_result:
        """Return what the system says about the file."""
        return os.fstat(self._raw.fileno())

    def done_bytes(self) -> int:
        """Return how much of the file, as it is on the disk, was read; 0 for a pipe, which has no size."""
        return self._raw.tell() if self._raw.seekable() else 0

    def close(self) -> None:
        """Close it."""
        self._reader.close()
        self._raw.close()

    def __enter__(self) -> LogFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _reader(path: str, raw: IO[bytes]) -> IO[bytes]:
    if path.endswith(".gz"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    if path.endswith(".zst"):
        return _zstd(path, raw)
    return raw


def _zstd(path: str, raw: IO[bytes]) -> IO[bytes]:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        raise SettingError(f"{path}: pip install 'eventstorm-integrations[logs]' brings what can read it") from None
    return cast("IO[bytes]", zstd.ZstdFile(raw))
