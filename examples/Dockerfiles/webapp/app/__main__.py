"""Serve the application with waitress on $PORT."""

import os
import signal
import sys

from waitress import serve

from app.web import app

# Process 1 of a container gets no signal that it does not handle.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
serve(
    app,
    host="127.0.0.1" if os.environ.get("LOOPBACK") else "0.0.0.0",
    port=int(os.environ["PORT"]),
    threads=4,
)
