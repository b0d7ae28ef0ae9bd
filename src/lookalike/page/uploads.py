"""What strangers send as a photo: decoded in another process, which may fail in any way."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
from contextlib import suppress

import numpy as np
from PIL import Image

from lookalike.images import ImageError, decode, read_bytes

SIDE = 512  # pixels of the longer side that are kept of an upload
AT_ONCE = 4  # uploads that are decoded, and questions that are answered, at the same time
SECONDS = 5  # that decoding may take
MEMORY = 2_000_000_000  # bytes that such a process may have
# The processes that decode, or None in the place of one that is not started (any more).
WORKERS = queue.LifoQueue()
for _ in range(AT_ONCE):
    WORKERS.put(None)


class UploadError(ValueError):
    """A photo, or a wish, that cannot be served; the message is for the one who sent it."""


def decode_upload(file: str) -> np.ndarray:
    """The pixels of an upload, upright and at most `SIDE` high and wide.

    Only a worker process opens the file, with `MEMORY` and `SECONDS` (not on Windows): what is
    damaged, huge when it is unpacked, or endless, ends that process and nothing else.

    Returns
    -------
    uint8 array [height, width, 3]; `UploadError` if there is none.
    """
    worker = WORKERS.get()
    try:
        worker = worker or _started()
        asked = json.dumps(file) + "\n"
        worker.stdin.write(asked.encode())
        worker.stdin.flush()
        # Nothing, if the worker has ended.
        answer = json.loads(worker.stdout.readline())
        if isinstance(answer, str):
            raise UploadError(f"This photo cannot be used: {answer.rstrip('.')}. Choose another.")
        data = worker.stdout.read(np.prod(answer))
        return np.frombuffer(data, np.uint8).reshape(answer)
    except (OSError, json.JSONDecodeError):
        worker = None
        raise UploadError(
            "This photo takes too long, or too much memory, to open. Save it smaller."
        ) from None
    finally:
        WORKERS.put(worker)


def _started():
    """A process that runs `main` below, and ends with this one."""
    path = os.pathsep.join(filter(None, sys.path))
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    command = [sys.executable, "-m", __name__]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, **pipes)


def main() -> None:
    """Decode the files that are named, a line each, until nobody asks any more."""
    # It kills this process.
    alarm = getattr(signal, "alarm", int)
    with suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    told = sys.stdout.buffer
    for line in sys.stdin:
        alarm(SECONDS)
        file = json.loads(line)
        data = b""
        try:
            image, _ = decode(read_bytes(file), file, SIDE)
            image.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
            answer = (image.height, image.width, 3)
            data = image.tobytes()
        except ImageError as error:
            answer = error.reason
        alarm(0)
        told.write(json.dumps(answer).encode() + b"\n")
        told.write(data)
        told.flush()


if __name__ == "__main__":
    main()
