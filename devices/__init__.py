"""Device descriptions (*.toml) and the runtimes' adapters, one module each.

Adapters are loaded by name through the registry. Never torch, search, tables or accuracy; importing this
package loads no runtime.
"""

from .description import device_names, load_device

__all__ = ["device_names", "load_device"]
