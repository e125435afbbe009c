"""An Arm board without a board: Debian's arm64 Python under QEMU's user mode, with a runtime's aarch64 wheels.

    python -m tests.emulated.board FOLDER      makes it, or says why it cannot be made

What it computes is what an Arm processor computes; what it takes is nobody's time. Its python is a shell script that
runs QEMU, so everything that starts a board's python (agent, measuring process) can be tried on it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

QEMU = "qemu-aarch64-static"
# of arm64, unpacked and not installed: Python, and what its modules and the wheels link to
_DEBIAN = (
    *("libc6", "libgcc-s1", "libstdc++6", "libexpat1", "zlib1g", "libffi8", "libssl3", "libbz2-1.0", "liblzma5"),
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"),
)
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64")
_WHEELS = ("numpy", "onnxruntime", "ai-edge-litert")
_MADE_OF = "made-of.txt"
_NOT_COMPILED = r"/(tests?|idlelib|lib2to3|f2py|distutils|transformers)/"  # never imported
_DOWNLOAD_S = 150
# QEMU shows the host's /proc/cpuinfo; the library that XNNPACK and ONNX Runtime read it with crashes on an x86 one
_CPUINFO = "".join(
    f"processor\t: {i}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\n"
    "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n"
    for i in range(2)
) + ("Hardware\t: BCM2835\nRevision\t: c03114\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n")


class CannotEmulateError(Exception):
    """There is no emulated board here; says why."""


def cache_folder() -> Path:
    """Where the board is kept: `HWNAS_EMULATED_BOARD`, or in the user's cache."""
    chosen = os.environ.get("HWNAS_EMULATED_BOARD")
    return Path(chosen) if chosen else Path.home() / ".cache" / "hwnas-emulated-board"


def emulated_python(folder: Path, *, make: bool = False) -> Path:
    """The board's python, a script.

    Args:
        folder: where the board is kept.
        make: it, if it is not there: fetches about 75 MB from Debian's and Python's registries.

    Raises:
        CannotEmulateError: QEMU is not installed, or the board is not there (and cannot be made).
    """
    if shutil.which(QEMU) is None:
        raise CannotEmulateError(f"{QEMU} is not installed (Debian's qemu-user-static)")
    script, made_of = folder / "python", folder / _MADE_OF
    wanted = "".join(f"{word}\n" for word in (*_DEBIAN, *_wanted()))
    if not script.exists() or not made_of.exists() or made_of.read_text() != wanted:
        if not make:
            raise CannotEmulateError(
                f"no board of these versions in {folder}; make it with: python -m tests.emulated.board {folder}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        if not made_of.exists() and any(folder.iterdir()):
            raise CannotEmulateError(f"{folder} is no board and not empty; name a new folder, or remove what is there")
        made_of.write_text("")  # begun; whatever stops it, the next time begins again
        for part in ("root", "site", "wheels", "packages", "apt"):
            shutil.rmtree(folder / part, ignore_errors=True)
        _fetch_debian(folder)
        _fetch_wheels(folder)
        _compile(folder)
        _write_script(folder, script)
        made_of.write_text(wanted)
    return script


def describe(folder: Path, python: Path, *, runtime: str) -> Path:
    """A description of the board behind `tests.measure.ssh_server.loopback_server(folder)`: a Raspberry Pi.

    Args:
        folder: the server's; the agent works there too.
        python: the board's.
        runtime: that measures.
    """
    path = folder / f"emulated-pi-{runtime}.toml"
    path.write_text(
        f'schema = 1\ndescription = "Raspberry Pi 4, emulated"\nruntime = "{runtime}"\nprecisions = ["int8"]\n'
        f'[connection]\ntransport = "ssh"\nhost = "board"\nconfig_file = "{folder / ".ssh/config"}"\n'
        f'python = "{python}"\nfolder = "{folder / "agent"}"\nconnect_timeout_s = 60\n'
    )
    return path


def _wanted() -> list[str]:
    """Of the versions that are installed here: what both compute can be compared."""
    found = []
    for name in _WHEELS:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name}=={version(name)}")
    return found


def _fetch_debian(folder: Path) -> None:
    """The packages of another architecture, by an apt with folders of its own: the system's is left alone."""
    state, packages = folder / "apt", folder / "packages"
    for path in (state / "lists/partial", state / "archives/partial", packages):
        path.mkdir(parents=True, exist_ok=True)
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "Dir::State": state,
        "Dir::State::status": "/dev/null",
        "Dir::Cache": state,
    }
    apt = ["apt-get", "-qq", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    _run([*apt, "update"], cwd=folder)
    _run([*apt, "download", *_DEBIAN], cwd=packages)
    for package in sorted(packages.glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(folder / "root")], cwd=folder)
    (folder / "root/proc").mkdir(exist_ok=True)
    (folder / "root/proc/cpuinfo").write_text(_CPUINFO)
    shutil.rmtree(packages)
    shutil.rmtree(state)


def _fetch_wheels(folder: Path) -> None:
    wheels = folder / "wheels"
    platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(wheels)]
    _run([*pip, "--python-version", "3.11", *platforms, *_wanted()], cwd=folder)
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "site")
    shutil.rmtree(wheels)


def _compile(folder: Path) -> None:
    """To bytecode, with this Python if it writes the board's: an emulated one needs seconds for it at every start."""
    if sys.version_info[:2] == (3, 11):
        places = (str(folder / "site"), str(folder / "root/usr/lib/python3.11"))
        command = [sys.executable, "-m", "compileall", "-q", "-x", _NOT_COMPILED, *places]
        subprocess.run(command, capture_output=True, check=False)  # some file may be of another Python


def _write_script(folder: Path, script: Path) -> None:
    root = folder.resolve() / "root"
    words = [
        *(QEMU, "-0", str(script.resolve()), "-cpu", "cortex-a72", "-L", str(root)),
        *(
            "-E",
            f"PYTHONPATH={folder.resolve() / 'site'}",
            "-E",
            f"PYTHONHOME={root / 'usr'}",
            "-E",
            "OMP_NUM_THREADS=1",
        ),
        str(root / "usr/bin/python3.11"),
    ]
    new = script.with_suffix(".new")
    new.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    new.chmod(0o755)
    _run([str(new), "-c", "import numpy, onnxruntime"], cwd=folder)
    new.replace(script)


def _run(command: list[str], *, cwd: Path) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=_DOWNLOAD_S)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise CannotEmulateError(f"{command[0]}: {e}") from e
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
        raise CannotEmulateError(f"{' '.join(command[:3])} ...: {said[-1]}")


if __name__ == "__main__":
    try:
        print(emulated_python(Path(sys.argv[1]) if sys.argv[1:] else cache_folder(), make=True))
    except CannotEmulateError as e:
        sys.exit(f"no emulated board: {e}")
