"""A process that decodes what strangers send, and may fail in any way: `uploads` starts it."""

import json
import signal
import sys
from contextlib import suppress

import numpy as np
from PIL import Image

from lookalike.images import ImageError, decode, read_bytes

SIDE = 512  # pixels of the longer side that are kept of an upload
SECONDS = 5  # that decoding may take
MEMORY = 2_000_000_000  # bytes that this process may have


def main():
    """Decode the files that are named, a line each, until nobody asks any more.

    The answer is a line with the reason why there are no pixels, if so, and their shape, then they.
    """
    # It ends this process. Windows has none, and no limits.
    alarm = getattr(signal, "alarm", int)
    with suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        file = json.loads(line)
        reason = ""
        pixels = np.empty(0, np.uint8)
        alarm(SECONDS)
        try:
            image, _ = decode(read_bytes(file), file, SIDE)
            image.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
            pixels = np.asarray(image)
        except ImageError as error:
            reason = error.reason
        alarm(0)
        told = json.dumps([reason, pixels.shape]) + "\n"
        sys.stdout.buffer.write(told.encode() + pixels.tobytes())
        sys.stdout.flush()


if __name__ == "__main__":
    main()
