"""Started on a board with `python -c`: fetches the agent if it is not there yet, checks its hash, becomes it.

The text of this file is what is sent, so it needs the standard library only and is written for every Python from 3.6
on: an old one must be able to say that it is too old. Arguments: folder, SHA-256 of the agent, oldest Python that
will do (`3.10`), a token, and, if it was put there by hand, the agent's path.

Whatever the login there prints, with or without a line's end, the caller finds the first reply: the token's SHA-256
stands before it. It is not the token itself, which a shell might print with the command.
"""

import base64
import hashlib
import json
import os
import shutil
import sys

REFUSED = 78  # exit status, from sysexits.h: a configuration error; standard error says which


def main() -> None:
    """Answer `boot` with whether the agent is wanted, take it, and become it."""
    folder, digest, oldest, token = sys.argv[1:5]
    by_hand = sys.argv[5:]
    if sys.version_info[:2] < tuple(int(n) for n in oldest.split(".")):
        version = ".".join(str(n) for n in sys.version_info[:3])
        refuse(f"{sys.executable} is Python {version}; the agent needs {oldest} or newer")
    folder = os.path.abspath(os.path.expanduser(folder))
    path = os.path.expanduser(by_hand[0]) if by_hand else os.path.join(folder, f"agent-{digest[:16]}.pyz")
    if by_hand and not os.path.isfile(path):
        refuse(f"there is no agent at {path}; write one with: hwnas agent --write FILE")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as e:
        refuse(f"cannot make the folder {folder}: {e.strerror}")
    sys.stdout.write(hashlib.sha256(token.encode()).hexdigest())
    request = next_request()
    while not by_hand and not is_whole(path, digest):
        answer(request, wanted=True)
        # the caller sends the agent with the request after the one that asked whether it is wanted
        request = next_request()
        data = base64.b64decode(str(request["data"]))
        if hashlib.sha256(data).hexdigest() == digest:
            keep(path, data)
    answer(request, wanted=False)
    # in place: pipes and process id stay, and nothing of this program is left
    os.execv(sys.executable, [sys.executable, path, folder])


def next_request() -> "dict[str, object]":
    """One line of JSON."""
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    try:
        return dict(json.loads(line))
    except ValueError:
        sys.exit("a request arrived damaged")


def answer(request: "dict[str, object]", *, wanted: bool) -> None:
    """The reply: whether the agent is to be sent (again)."""
    sys.stdout.write(json.dumps({"id": request["id"], "ok": True, "result": {"wanted": wanted}}) + "\n")
    sys.stdout.flush()


def is_whole(path: str, digest: str) -> bool:
    """Whether the file is there with this content."""
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest() == digest
    except OSError:
        return False


def keep(path: str, data: bytes) -> None:
    """Write a file whole."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as e:
        if os.path.exists(temporary):
            os.unlink(temporary)
        free = shutil.disk_usage(os.path.dirname(path)).free
        refuse(f"cannot write {path}: {e.strerror}; it needs {len(data)} bytes and {free} are free")


def refuse(why: str) -> None:
    """End, saying why."""
    sys.stderr.write(why + "\n")
    sys.exit(REFUSED)


if __name__ == "__main__":
    main()
