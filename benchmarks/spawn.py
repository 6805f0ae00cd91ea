"""Starts commands for bench.py, one at a time, and reports what they cost.

The kernel counts the memory of the forking process into a child's peak RSS, so this
runs as its own small process (python3 -I -S) that imports next to nothing.
Requests and answers are JSON lines on stdin and stdout.
"""

import json
import os
import signal
import sys
import time


def child(req):
    os.setsid()
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    log = os.open(req["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(req["cwd"])
    if req["uid"] is not None:
        os.setgroups([])
        os.setgid(req["gid"])
        os.setuid(req["uid"])
    os.execvpe(req["argv"][0], req["argv"], req["env"])


def serve():
    for line in sys.stdin:
        req = json.loads(line)
        start = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            try:
                child(req)
            except BaseException as e:
                os.write(2, f"cannot start {req['argv'][0]}: {e}\n".encode())
            os._exit(127)
        print(json.dumps({"pid": pid}), flush=True)

        def too_long(*_, pid=pid):
            os.killpg(pid, signal.SIGKILL)

        signal.signal(signal.SIGALRM, too_long)
        signal.alarm(req["timeout"])
        _, status, ru = os.wait4(pid, 0)
        wall = time.perf_counter() - start
        signal.alarm(0)
        print(
            json.dumps(
                {
                    "rc": os.waitstatus_to_exitcode(status),
                    "wall": wall,
                    "cpu": ru.ru_utime + ru.ru_stime,
                    "rss": ru.ru_maxrss * 1024,
                }
            ),
            flush=True,
        )


serve()
