"""The servers that Twin's adapters are tested against, built, started and stopped without Docker.

    python -m tests.servers up [--only weaviate,redis]     starts them and prints the variables that name them
    python -m tests.servers build                          only makes them: a test that did would run out of its time
    python -m tests.servers status
    python -m tests.servers down                           ends them and takes their data

Comes in: names. Goes out: running servers on free ports of 127.0.0.1, their data in one temporary directory. Does not
know: Twin. Each is pinned, and kept in .cache/servers once it was built; building needs Go, and Debian's packages are
unpacked there too, so that nothing of the machine changes.
"""
