"""Running a flow at once, with no server set up: one on loopback serves it as long as it runs.

Prefect could start one by itself, but only once the flow begins, and by importing all of the server into the flow's
process, too. Started here, it gets ready while the flow's process imports what that needs.
"""

import atexit
import gc
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

_STOP_SECONDS = 10.0


def serverless() -> None:
    """Make `python -m flows.<name>` need no server; to be called before prefect is imported, which reads it once.

    A profile of the user's may name a server that is down; PREFECT_API_URL or PREFECT_PROFILE in the environment win.
    The port listens at once: Prefect's first request waits until the server answers.
    """
    if "PREFECT_API_URL" in os.environ or "PREFECT_PROFILE" in os.environ or "--help" in sys.argv:
        return
    os.environ["PREFECT_PROFILE"] = "ephemeral"
    os.environ["PREFECT_API_AUTH_STRING"] = auth = f"cpfd:{secrets.token_urlsafe(24)}"
    log = Path(os.environ["PREFECT_HOME"], "server.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as file:
        server = subprocess.Popen(
            [sys.executable, "-P", __file__, str(listener.fileno())],
            env={
                **os.environ,
                "PREFECT_UI_ENABLED": "0",
                # Pages that are open in a browser on this machine can send it requests, too (flows/services.py).
                "PREFECT_SERVER_API_AUTH_STRING": auth,
                "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "http://127.0.0.1",
                "PREFECT__SERVER_EPHEMERAL": "1",
                "PREFECT__SERVER_FINAL": "1",
                "PREFECT_API_BLOCKS_REGISTER_ON_START": "0",
            },
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
        os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        os.environ["PREFECT_UI_URL"] = ""
    atexit.register(_stop, server, log)


def _stop(server: subprocess.Popen[bytes], log: Path) -> None:
    """End the server; before prefect is imported, this is registered first, so it comes after all that prefect does."""
    if server.poll() is not None:
        print(f"the temporary Prefect server has ended by itself; its last words are in {log}", file=sys.stderr)
    assert server.stdin is not None
    server.stdin.close()
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _serve(listener: int) -> None:
    """Serve until the other end of stdin closes, which the flow's end does, whatever that is."""
    threading.Thread(target=_follow, daemon=True).start()
    gc.disable()  # a fifth of the start, for nothing: what is imported stays
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            gc.freeze()
            gc.enable()

    config = uvicorn.Config("prefect.server.api.server:create_app", factory=True, log_level="error")
    Server(config).run(sockets=[socket.socket(fileno=listener)])


def _follow() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
