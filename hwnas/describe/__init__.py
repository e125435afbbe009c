"""What there is: devices and search spaces, listed; and the description of a new device, written.

Knows the fields of a description; never a run, torch, or a runtime in this process.
"""

from hwnas.describe.describing import NewDevice, NewDeviceOptions, new_device
from hwnas.describe.listing import (
    DeviceList,
    DeviceResult,
    SpaceList,
    SpaceResult,
    all_devices,
    all_spaces,
    one_device,
    one_space,
)

__all__ = [
    "DeviceList",
    "DeviceResult",
    "NewDevice",
    "NewDeviceOptions",
    "SpaceList",
    "SpaceResult",
    "all_devices",
    "all_spaces",
    "new_device",
    "one_device",
    "one_space",
]
