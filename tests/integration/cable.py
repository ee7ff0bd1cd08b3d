"""A device and its server in two networks with a cable between them: `python -m tests.integration.cable FOLDER TOKEN`.

Prints one JSON document of what was seen; exits with 77 where the system allows no namespaces. With `--server` it is
the server's side: an empty network, that gets its end of the cable from the other side.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.integration.company import environment, query
from tests.integration.network import add_address, enter_network, lay_cable, set_link

from syncline import Replica

NOT_ALLOWED = 77
PORT = 8787
SERVER, DEVICE = "192.0.2.1", "192.0.2.2"
PATIENCE_SECONDS = 40.0


def main() -> None:
    if sys.argv[1] == "--server":
        serve(Path(sys.argv[2]))
        return
    folder, token = Path(sys.argv[1]), sys.argv[2]
    try:
        enter_network()
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(NOT_ALLOWED)
    command = [sys.executable, "-m", "tests.integration.cable", "--server", str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        try:
            assert server.stdout.readline() == "in its network\n"
            lay_cable("cable0", "cable1", server.pid)
            add_address("cable0", DEVICE)
            set_link("cable0", up=True)
            server.stdin.write("plugged in\n")
            server.stdin.flush()
            assert server.stdout.readline().startswith("listening on")
            seen = play(folder, token)
        finally:
            server.kill()
    print(json.dumps(seen))


def serve(folder: Path) -> None:
    """Until it is killed."""
    from syncline.cli.main import run

    enter_network()
    print("in its network", flush=True)
    sys.stdin.readline()
    add_address("cable1", SERVER)
    set_link("cable1", up=True)
    sys.exit(run(["serve", "--host", SERVER, "--port", str(PORT), "--config", str(folder / "syncline.toml")]))


def play(folder: Path, token: str) -> dict[str, Any]:
    """Three times: the cable is pulled, the nurse writes, the cable is plugged in again."""
    seen: dict[str, Any] = {"pulled": [], "seconds": [], "timer_seconds": []}
    path, clinic = folder / "cable.device.db", folder / "clinic.db"
    with closing(Replica(path, f"http://{SERVER}:{PORT}", token)) as replica:
        replica.start()
        wait_for(lambda: replica.status.state == "live", "live")
        for number in (1, 2, 3):
            set_link("cable0", up=False)
            wait_for(lambda: replica.status.state == "offline", "offline")
            query(path, f"INSERT INTO notes VALUES('cable-{number}', 'v-ada', 'in the cellar')")
            time.sleep(1.5 * number)  # long enough for the network to count as steady
            status = replica.status
            seen["pulled"].append([status.state, status.reason, status.pending])
            seen["timer_seconds"].append(seconds_to_timer(replica))
            begun = time.monotonic()
            set_link("cable0", up=True)
            arrived = f"SELECT 1 FROM notes WHERE id = 'cable-{number}'"
            wait_for(lambda arrived=arrived: bool(query(clinic, arrived)), "the note")  # type: ignore[misc]
            seen["seconds"].append(time.monotonic() - begun)
            wait_for(lambda: replica.status.state == "live" and not replica.status.pending, "live again")
    return seen


def seconds_to_timer(replica: Replica) -> float:
    """When the device would try by itself."""
    agent = replica._agent
    assert agent is not None and agent.engine._course.timer is not None
    return agent.engine._course.timer - time.monotonic()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < ends, f"not in time: {what}"
        time.sleep(0.005)


if __name__ == "__main__":
    main()
