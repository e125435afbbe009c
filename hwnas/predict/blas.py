"""One thread for BLAS while many small products are made.

Its threads share out one product at a time. For products as small as those of a process of some hundred networks that
takes longer than it saves: on two cores it halved the speed of a search's proposals.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """While this is entered, BLAS uses one thread, in all of the process."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # looks through all libraries of the process, which takes milliseconds
