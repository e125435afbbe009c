"""Stands in for `adb`: runs the command here, in a folder that plays the device, over pipes as adb does.

`adb -s SERIAL shell -T LINE`. Several devices are folders in that folder, named by their serials. Faults are asked for
by files in a device's folder: `down` (no device), `damage` (a number: so many pieces of files arrive changed), `cut` (a
number: so many requests to time something are the last thing that passes), `die` (a number: at that request to time
something the device goes down for good). Two more make it another device than its neighbour: `options` (JSON: replace
those of the runtime) and `wait_s` (a number: what it takes longer to time something). When it is killed, the command
loses its standard input, as over a cable.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


def is_due(fault: Path) -> bool:
    """Whether the fault is to happen once more; counts it."""
    if not fault.exists():
        return False
    left = int(fault.read_text())
    fault.write_text(str(left - 1))
    if left <= 1:
        fault.unlink()
    return True


def damaged(line: bytes, board: Path) -> bytes:
    """The line with one character of the file's piece changed, if one is still to be."""
    if b'"op": "put"' not in line or not is_due(board / "damage"):
        return line
    start = line.index(b'"data": "') + len(b'"data": "')
    return line[:start] + (b"B" if line[start : start + 1] != b"B" else b"C") + line[start + 1 :]


def with_options(line: bytes, board: Path) -> bytes:
    """The line with the runtime's options that this device has, if it has its own."""
    if b'"op": "hello"' not in line or b'"device": ' not in line or not (board / "options").exists():
        return line
    request = json.loads(line)
    request["request"]["device"]["options"].update(json.loads((board / "options").read_text()))
    return json.dumps(request).encode() + b"\n"


def main() -> int:
    """Run the command and pass everything on."""
    _, _, serial, _, _, line = sys.argv
    board = Path(os.environ["FAKE_ADB_BOARD"])
    if (board / serial).is_dir():
        board /= serial
    if (board / "down").exists():
        print(f"error: device '{serial}' not found", file=sys.stderr)
        return 1
    environment = {**os.environ, "HOME": str(board), "PYTHONPATH": str(board / "modules")}
    with subprocess.Popen(
        ["sh", "-c", line],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=board,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def pass_in() -> None:
            assert process.stdin is not None
            try:
                for request in sys.stdin.buffer:
                    timed = b'"op": "time"' in request
                    if timed and (board / "wait_s").exists():
                        time.sleep(float((board / "wait_s").read_text()))
                    if timed and is_due(board / "die") and not (board / "die").exists():
                        (board / "down").touch()
                        os.kill(os.getpid(), signal.SIGKILL)
                    process.stdin.write(with_options(damaged(request, board), board))
                    process.stdin.flush()
                    if timed and is_due(board / "cut"):
                        os.kill(os.getpid(), signal.SIGKILL)
                process.stdin.close()
            except BrokenPipeError:
                pass

        threading.Thread(target=pass_in, daemon=True).start()
        for reply in iter(lambda: os.read(process.stdout.fileno(), 1 << 16), b""):  # type: ignore[union-attr]
            sys.stdout.buffer.write(reply)
            sys.stdout.buffer.flush()
        status = process.wait()
    os._exit(status if status >= 0 else 128 - status)  # the reader of standard input sleeps for ever


if __name__ == "__main__":
    sys.exit(main())
