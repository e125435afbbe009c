"""The samplers that come with hwnas, by name in the registry; `docs/search.md` says what each is good for.

Each is a `SamplerFactory`: `(problem, *, seed) -> BaseSampler`. `functools.partial` sets the other
arguments. They propose freely; limits, duplicates and switched-off choices are the space sampler's work.
"""
