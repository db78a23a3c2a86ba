"""A run in a process of its own, watched by a light supervisor.

The supervisor starts before anything heavy is imported.  It ends the run on a signal or over a
limit, and says in a sentence why the run ended where the run itself cannot, as when the engine
crashes or never comes back: on stderr, and in the run's log.  It removes the files that the run
leaves behind.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from nettrim_cli.process import memory
from nettrim_cli.process.channel import Channel, connect, shared_clock
from nettrim_cli.process.ledger import Ledger

ENDINGS = ("SIGINT", "SIGTERM", "SIGHUP")
LONGEST_WAIT, SHORTEST_WAIT = 0.1, 0.01  # seconds between two looks at limits
FILLED_PER_SECOND = 8 << 30  # bytes of memory that a process can fill, about
REAPED_WITHIN = 0.3  # seconds; a killed process that waits for a disk may take longer
DEATH_OF_PARENT = 1  # prctl's PR_SET_PDEATHSIG


def run_supervised(work: Callable[[], int]) -> int:
    """Run `work` in a process of its own, where the system can fork, and give its exit code.

    `work` runs in a copy of this process, so it changes nothing here.
    """
    if not hasattr(os, "fork"):
        return work()
    endings = [
        getattr(signal, name)
        for name in ENDINGS
        # nohup and shells' background jobs have signals ignored, and mean it.
        if signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN
    ]
    watched_signals = {*endings, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched_signals)
    try:
        signals, signals_end = os.pipe()
        messages, messages_end = os.pipe()
        os.set_blocking(signals_end, False)
        clock = shared_clock()
        parent, process = os.getpid(), os.fork()
    except OSError:  # no more processes or files: better alone than not at all
        signal.pthread_sigmask(signal.SIG_UNBLOCK, watched_signals)
        return work()
    if process == 0:
        for number in endings:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, watched_signals)
        for handle in (signals, signals_end, messages):
            os.close(handle)
        end_with(parent)
        connect(Channel(messages_end, clock))
        memory.refuse_huge_allocations(default_memory())
        leave(work())
    os.close(messages_end)
    signal.set_wakeup_fd(signals_end, warn_on_full_buffer=False)
    for number in watched_signals:
        signal.signal(number, lambda *_: None)  # the pipe says which it was
    signal.pthread_sigmask(signal.SIG_UNBLOCK, watched_signals)
    return Supervisor(process, messages, signals, clock, endings).wait()


def leave(code: int) -> None:
    """End this process at once, before exit handlers of native code can fail."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def end_with(parent: int) -> None:
    """Let this process end when its parent does, even if that is killed."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(DEATH_OF_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)
        return
    import threading

    def watch() -> None:
        """End this process once its parent has changed."""
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(128 + signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


class Supervisor:
    """Waits for a run to end, or ends it.

    Parameters
    ----------
    process
        Number of the process.
    messages
        Handle from which its messages are read.
    signals
        Handle from which the numbers of signals are read.
    clock
        Memory shared with it, which holds the time when the engine's call must end.
    endings
        Signals that end the run.
    """

    def __init__(
        self,
        process: int,
        messages: int,
        signals: int,
        clock: memoryview[float],
        endings: list[int],
    ) -> None:
        self.process, self.messages, self.signals, self.clock = process, messages, signals, clock
        self.endings = endings
        self.ledger = Ledger(default_memory())
        self.begun = time.monotonic()
        self.kills = _oom_kills()
        self.reading = [messages, signals]
        self.status: int | None = None

    def wait(self) -> int:
        """Wait until the run has ended, and give its exit code."""
        patience = 0.0
        while True:
            ready, _, _ = select.select(self.reading, [], [], patience)
            if self.signals in ready:
                for number in os.read(self.signals, 64):
                    if number in self.endings and not self._reap():
                        return self._end(128 + number, self.ledger.ended_by(number))
            if self.messages in ready:
                self._listen()
            if self._reap():
                return self._ended()
            elapsed = time.monotonic() - self.begun
            if elapsed > self.ledger.seconds:
                return self._end(124, self.ledger.out_of_time())
            if time.monotonic() > self.clock[0] and not self.ledger.has_limit:
                return self._end(124, self.ledger.engine_hangs())
            used = sum(memory.used(number) or 0 for number in (self.process, *self.ledger.workers))
            if used > self.ledger.bytes:
                return self._end(71, self.ledger.out_of_memory(used))
            room = (self.ledger.bytes - used) / FILLED_PER_SECOND
            remaining = self.ledger.seconds - elapsed
            patience = max(SHORTEST_WAIT, min(LONGEST_WAIT, room, remaining))

    def _reap(self) -> bool:
        """Whether the run has ended."""
        if self.status is None:
            done, status = os.waitpid(self.process, os.WNOHANG)
            self.status = status if done else None
        return self.status is not None

    def _listen(self, *, drain: bool = False) -> None:
        """Read the messages that have arrived."""
        while select.select([self.messages], [], [], 0)[0]:
            data = os.read(self.messages, 1 << 16)
            self.ledger.read(data)
            if not data:
                self.reading = [self.signals]
            if not (data and drain):
                return

    def _end(self, code: int, sentence: str) -> int:
        """End the run, clean up behind it and say why."""
        with suppress(ProcessLookupError):
            os.kill(self.process, signal.SIGKILL)
        latest = time.monotonic() + REAPED_WITHIN
        while not self._reap() and time.monotonic() < latest:
            time.sleep(0.002)
        self._listen(drain=True)
        return self._say(code, sentence)

    def _say(self, code: int, sentence: str) -> int:
        text = printable(f"{sentence}; {self.ledger.clean_up()}")
        show_cursor()
        complain(text)
        self.ledger.write_down(text, time.monotonic() - self.begun)
        return code

    def _ended(self) -> int:
        """Exit code of a run that has ended by itself, after a sentence if it was killed."""
        assert self.status is not None
        self._listen(drain=True)
        if not os.WIFSIGNALED(self.status):
            return os.WEXITSTATUS(self.status)
        number = os.WTERMSIG(self.status)
        if number in self.endings:
            return self._say(128 + number, self.ledger.ended_by(number))
        if number == signal.SIGKILL:
            if _oom_kills() > self.kills:
                return self._say(71, self.ledger.killed_for_memory())
            return self._say(128 + number, self.ledger.ended_by(number))
        return self._say(*self.ledger.crashed(number))


def default_memory() -> int:
    """Bytes that a run may take where the user set no limit."""
    room = memory.available()
    return sys.maxsize if room is None else int(memory.SHARE * room)


def show_cursor() -> None:
    """Remove the rest of a progress bar."""
    with suppress(OSError, ValueError, AttributeError):
        if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            sys.stderr.write("\r\x1b[2K\x1b[?25h")
            sys.stderr.flush()


def printable(text: str) -> str:
    """A text with its control characters spelled out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def complain(text: str) -> None:
    """One line on stderr, control characters spelled out."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"nettrim: {printable(text)}\n")
        sys.stderr.flush()


def _oom_kills() -> int:
    """How often the system has killed a process for want of memory."""
    with suppress(OSError, ValueError, IndexError), open("/proc/vmstat", "rb") as file:
        for line in file:
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
    return 0
