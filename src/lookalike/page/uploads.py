"""What strangers send as a photo: decoded in another process, which may fail in any way."""

import json
import os
import queue
import sys
from subprocess import DEVNULL, PIPE, Popen

import gradio as gr
import numpy as np

AT_ONCE = 4  # uploads that are decoded, and questions that are answered, at the same time
# The processes that decode, or None in the place of one that is not started (any more).
WORKERS = queue.LifoQueue()
for _ in range(AT_ONCE):
    WORKERS.put(None)


class UploadError(gr.Error):
    """A photo that cannot be used; any Gradio page shows the message."""

    def __init__(self, message):
        super().__init__(message, print_exception=False)

    def __str__(self):
        return self.message


def decode_upload(file):
    """The pixels of an upload, upright and at most 512 high and wide.

    Only a worker process opens the file, with 2 GB and 5 seconds (not on Windows): what is damaged,
    huge when it is unpacked, or endless, ends that process and nothing else.

    Returns
    -------
    uint8 array [height, width, 3]; `UploadError` if there is none.
    """
    if file is None:
        raise UploadError("There is no photo yet. Choose one first.")
    worker = WORKERS.get()
    try:
        worker = worker or _started()
        asked = json.dumps(file) + "\n"
        worker.stdin.write(asked.encode())
        worker.stdin.flush()
        # Nothing, if the worker has ended.
        reason, shape = json.loads(worker.stdout.readline())
        pixels = worker.stdout.read(np.prod(shape))
    except (OSError, ValueError):
        worker = None
        raise UploadError(
            "This photo takes too long, or too much memory, to open. Save it smaller."
        ) from None
    finally:
        WORKERS.put(worker)
    if reason:
        raise UploadError(f"This photo cannot be used: {reason.rstrip('.')}. Choose another.")
    return np.frombuffer(pixels, np.uint8).reshape(shape)


def _started():
    """A worker, which ends with this process."""
    command = [sys.executable, "-m", "lookalike.page.worker"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": PIPE, "stdout": PIPE, "stderr": DEVNULL}
    return Popen(command, env=environment, **pipes)
