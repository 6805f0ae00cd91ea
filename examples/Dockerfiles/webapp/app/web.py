"""A notebook in memory: GET / lists the notes, POST / adds one."""

import os

from flask import Flask, jsonify, request

app = Flask(__name__)
notes: list[str] = []


@app.get("/")
def list_notes():
    return jsonify(
        service="webapp", version=os.environ.get("WEBAPP_VERSION", ""), uid=os.getuid(), notes=notes
    )


@app.post("/")
def add_note():
    notes.append(request.get_data(as_text=True))
    return jsonify(count=len(notes)), 201


@app.get("/health")
def health():
    return "ok\n"
