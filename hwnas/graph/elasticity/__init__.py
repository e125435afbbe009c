"""What of a network can be smaller, found from its operator graph alone: no torch, no weights' numbers.

Which channels, heads and groups stand and fall together (`dependencies`), what a smaller network computes
(`specialise`), which residual branches can be left out (`branches`), and where a network can be cut (`regions`).
"""
