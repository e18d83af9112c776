"""A Kubernetes of one node for tests, and what Twin's images and chart are tried on in it.

    python -m tests.cluster able       whether it can run here; otherwise 1, and one line that says what is missing
    python -m tests.cluster up         builds what is missing, starts it, waits until the node is ready
    python -m tests.cluster load       builds Twin's images and those of the stores, and brings them in
    python -m tests.cluster status
    python -m tests.cluster down       ends it and leaves nothing behind

Where Docker runs and kind is installed, it is kind's; elsewhere its parts run as processes of this machine, which takes
Linux, root, Go and Debian's packages.
"""
