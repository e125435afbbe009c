"""How a command ends: in one line and with a status that tells what happened, whatever comes.

Knows the command-line library, errors of the operating system and signals; never what a command does.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from itertools import pairwise
from types import FrameType
from typing import Any, TextIO

import typer
from rich.console import Console as RichConsole
from typer.core import TyperGroup

from hwnas._console import Console
from hwnas.errors import ConfigError, HwnasError, MissingPackageError

INTERRUPTED = 128 + signal.SIGINT
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # click's, wherever typer keeps it
_QUESTIONS = ("hwnas query", "hwnas serve", "hwnas predict")  # of a finished run; what others do needs torch in the end
_GO_ON = "run the same command again to go on"
# what was named cannot be used so; anything else (a full disk) may pass
_WRONG_PLACE = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP),
    *(errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTEMPTY, errno.EINVAL, errno.ENXIO, errno.ENODEV, errno.EXDEV),
}


class Terminated(KeyboardInterrupt):
    """The system asks this process to end; all that cleans up after Ctrl-C does so after this, too.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


class Commands(TyperGroup):
    """The commands. What was typed wrongly is one line on standard error and status 2, as any other wrong input.

    So is a package that hwnas asks for and a command needs, but that is not installed.
    """

    def main(  # type: ignore[override]  # the library's own signature differs between its versions
        self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **given: Any
    ) -> Any:
        """Run the command that the arguments name, and end the process with its status."""
        words = sys.argv[1:] if args is None else list(args)
        try:
            status = super().main(args=args, standalone_mode=False, **given)
        except _UsageError as e:
            status = _refuse(e, words)
        except typer.Abort:
            status = INTERRUPTED
        except ModuleNotFoundError as e:
            command = self._command_of(words)
            missing = MissingPackageError.of(e, needed_for=command, with_most=command not in _QUESTIONS)
            if missing is None:  # of a user's module, or of ours: whoever wrote that wants to see where
                raise
            if "--debug" in words:
                traceback.print_exc()
            Console(json_output="--json" in words).failure(missing)
            status = missing.exit_status
        if standalone_mode:
            sys.exit(status)
        return status

    def _command_of(self, words: Sequence[str]) -> str:
        """The command that some arguments name: `hwnas devices audit`."""
        named = ["hwnas"]
        known: Any = self.commands
        for word in words:
            if word not in known:
                break
            named.append(word)
            known = getattr(known[word], "commands", {})
        return " ".join(named)


def _refuse(error: Any, words: Sequence[str]) -> int:
    """Say what was typed wrongly; without a command, show what there is."""
    if type(error).__name__ == "NoArgsIsHelpError":  # by its name: versions keep the class in different places, or not
        error.show()
        return ConfigError.exit_status
    names = getattr(getattr(error, "param", None), "opts", ())
    values = [repr(value) for name, value in pairwise(words) if name in names]
    message = error.format_message().rstrip(".")
    told = "" if not values or values[-1] in message else f", but is {values[-1]}"
    hint = f"; see: {error.ctx.command_path} --help" if getattr(error, "ctx", None) is not None else ""
    Console(json_output="--json" in words).failure(ConfigError(f"{message}{told}{hint}"))
    return ConfigError.exit_status


@contextmanager
def speaking(*, json_output: bool, debug: bool) -> Iterator[Console]:
    """The console of a command; turns errors into one line and an exit status.

    What anything else prints in Python meanwhile, a user's function or a library, goes to standard error.
    """
    # bound now, for its file is looked up at each print; there is none where standard output was closed
    result = RichConsole(file=sys.stdout if sys.stdout is not None else io.StringIO())
    console = Console(json_output=json_output, stdout=result)
    try:
        with redirect_stdout(sys.stderr):
            yield console
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt as e:
        number = e.number if isinstance(e, Terminated) else signal.SIGINT
        why = f"stopped by {signal.Signals(number).name}" if isinstance(e, Terminated) else "interrupted"
        console.failure(HwnasError(f"{why}; {_GO_ON}"), exit_status=128 + number)
        raise typer.Exit(128 + number) from None
    except BrokenPipeError:  # whoever read our output has seen enough
        _hush()
        raise typer.Exit(128 + signal.SIGPIPE) from None
    except (HwnasError, OSError, MemoryError) as e:
        if debug:
            traceback.print_exc()
        told = e if isinstance(e, HwnasError) else _in_our_words(e)
        console.failure(told)
        raise typer.Exit(told.exit_status) from None


def stdout_for_result() -> TextIO:
    """Standard output as a stream for the result of this process alone; for good.

    C code and child processes know descriptors, not `sys.stdout`: theirs, 1, becomes another name of standard error.
    It is never turned back, because C writes what it has buffered when the process ends.
    """
    try:
        os.fstat(2)
    except OSError:  # standard error was closed: nobody else shall get its number
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    before = sys.stdout
    if before is None:  # standard output was closed: the result goes nowhere
        os.dup2(2, 1)
        return io.StringIO()
    before.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    # closed by the end of the process, not before: others may hold the stream
    return open(
        kept,
        "w",
        buffering=1 if before.line_buffering else -1,
        encoding=before.encoding,
        errors=before.errors,
        closefd=False,
    )


def _hush() -> None:
    """Let what is still to be flushed go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # replaced by something that is no file, or closed
            os.dup2(nowhere, stream.fileno())


def _in_our_words(error: OSError | MemoryError) -> HwnasError:
    if isinstance(error, MemoryError):
        return HwnasError(f"the memory did not suffice{f' ({error})' if str(error) else ''}; ask for less, or {_GO_ON}")
    said = error.strerror or str(error)
    named = [os.fsdecode(n) for n in (error.filename, error.filename2) if isinstance(n, str | bytes)]
    where = named[-1] if named else ""  # the first of two is a temporary file of our own
    if error.errno == errno.EEXIST:
        said = "it is there already, and is no folder"
    text = f"{where}: {said}" if where else said
    if error.errno in _WRONG_PLACE:
        return ConfigError(text)
    return HwnasError(f"{text}; {_GO_ON}")  # a full disk, a network drive that is away


@contextmanager
def signals() -> Iterator[None]:
    """Let the first request to end clean up, and further ones neither disturb that nor wait for ever.

    The first Ctrl-C, SIGTERM or SIGHUP raises in the main thread; the second is passed over, the third ends the process
    at once. After the context, a signal ends the process without a word.
    """
    asked = 0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)
        if asked > 2:
            os._exit(128 + number)

    handled = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    handled = [number for number in handled if signal.getsignal(number) is not signal.SIG_IGN]  # as nohup wants it
    for number in handled:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)


def speak_any_language() -> None:
    """Let no locale and no terminal stop a command over a letter.

    Where the locale is not UTF-8, names of files could not be read or written: the process starts anew in Python's
    UTF-8 mode, its children likewise. What a terminal cannot show is written as an escape.
    """
    if not sys.flags.utf8_mode and sys.getfilesystemencoding().lower().replace("-", "") != "utf8":
        encoding = (sys.stdout.encoding if sys.stdout is not None else "") or "ascii"
        os.environ["PYTHONUTF8"] = "1"
        if encoding.lower() not in ("ascii", "ansi_x3.4-1968", "646", "us-ascii"):
            os.environ.setdefault("PYTHONIOENCODING", encoding)
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
