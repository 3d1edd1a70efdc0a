"""A program that writes numbered lines in bursts: started with the file's name and a seed.

It appends, and opens the file anew at SIGUSR1, as nginx does; at SIGTERM it says how many lines there were, and ends.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT
_MOST_WRITES = 30
_LONGEST_PAUSE_S = 0.04


def main(path: str, seed: str) -> None:
    """Write until SIGTERM."""
    told: set[int] = set()
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, lambda number, frame: told.add(number))
    chance, fd, count = random.Random(int(seed)), os.open(path, _FLAGS, 0o644), 0
    print("ready", flush=True)
    while signal.SIGTERM not in told:
        for _ in range(chance.randrange(_MOST_WRITES)):
            if signal.SIGUSR1 in told:
                told.discard(signal.SIGUSR1)
                os.close(fd)
                fd = os.open(path, _FLAGS, 0o644)
                print("reopened", flush=True)
            # Now and then several lines at once, as buffered logs have them.
            lines = chance.choice([1, 1, 1, 10])
            os.write(fd, b"".join(b"%d %s\n" % (count + each, b"x" * chance.randrange(120)) for each in range(lines)))
            count += lines
        time.sleep(chance.random() * _LONGEST_PAUSE_S)
    print(count, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
