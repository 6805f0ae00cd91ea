"""Serve the application with waitress on $PORT."""

import os

from waitress import serve

from app.web import app

serve(
    app,
    host="127.0.0.1" if os.environ.get("LOOPBACK") else "0.0.0.0",
    port=int(os.environ["PORT"]),
    threads=4,
)
