"""Log files by themselves: compressed ones, damaged ones, and the order of those that were rotated."""

from __future__ import annotations

import gzip
import os
import sys
from collections import deque
from pathlib import Path

import pytest

from eventstorm_integrations.logs.compressed import LogFile
from eventstorm_integrations.logs.rotated import series

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_compressed_file_is_read_as_what_was_compressed(tmp_path: Path, ending: str) -> None:
    text = "".join(f"line {number}\n" for number in range(100_000)).encode()
    pieces = text[:10], text[10:20], text[20 : len(text) // 2], text[len(text) // 2 :]
    pack = gzip.compress if ending == ".gz" else zstd.compress
    # Files that were appended to are several compressed ones.
    path = tmp_path / f"x{ending}"
    path.write_bytes(b"".join(map(pack, pieces)))

    with LogFile(str(path)) as file:
        assert file.head(100) == text[:100]
        found = b"".join(iter(lambda: file.read(10_000), b""))
    assert found == text


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_a_damaged_file_is_an_error_that_says_so(tmp_path: Path, ending: str, damage: str) -> None:
    text = os.urandom(300_000)
    whole = gzip.compress(text) if ending == ".gz" else zstd.compress(text)
    path = tmp_path / f"x{ending}"
    path.write_bytes(whole[:200_000] if damage == "cut" else b"no such format" * 100)

    with LogFile(str(path)) as file, pytest.raises(OSError, match=r".+"):  # whatever it says
        deque(iter(lambda: file.read(10_000), b""))


def test_rotated_files_of_a_log_are_put_in_the_order_of_their_lines(tmp_path: Path) -> None:
    names = ["mail.log.10.gz", "mail.log.2.gz", "mail.log.1", "mail.log", "other.log"]
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))

    found = series([str(tmp_path / name) for name in sorted(names)])

    assert [[Path(path).name for path in each] for each in found] == [names[:4], names[4:]]
