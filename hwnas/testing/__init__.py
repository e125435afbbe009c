"""What plug-ins and runs are tested with: conformance suites, a fake device, a tiny space, a tiny run.

    runtime_suite, exporter_suite, space_suite, search_suite    tests to inherit
    fake, simulation                                            a device whose times are known
    spaces, run                                                 a space and a whole run that take seconds

Nothing is imported here: the suites need pytest, the fake device does not.
"""
