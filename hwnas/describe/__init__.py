"""Descriptions of devices: a new one, written from flags, another description and answers.

Knows the fields of a description; never a run, torch, or a runtime in this process.
"""

from hwnas.describe.describing import Wishes, new_device

__all__ = ["Wishes", "new_device"]
