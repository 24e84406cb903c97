"""A command run by the server: hands over what a new process would inherit, passes signals on, ends as it ends.

Run by `python -I -S`, so that it starts at once.
"""

import json
import os
import resource
import signal
import socket
import sys

PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    numbers = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
    limits = [(number, resource.getrlimit(number)) for number in numbers]
    request = {"arguments": sys.argv[2:], "folder": os.getcwd(), "environment": dict(os.environ), "limits": limits}
    socket.send_fds(server, [b"!"], [0, 1, 2])
    server.sendall(json.dumps(request).encode() + b"\n")
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: server.sendall(bytes([number])))
    ended = server.recv(2)
if not ended:
    sys.exit("the warm process has died")
code, killed_by = ended
if killed_by:
    signal.signal(killed_by, signal.SIG_DFL)
    os.kill(os.getpid(), killed_by)
sys.exit(code)
