"""Ways to a board, one module each, loaded by name through the registry.

They know the programs that lead there (OpenSSH, adb); never what is said on the way. None listens on a port.
"""
