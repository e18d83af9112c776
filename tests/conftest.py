"""What every test may use: the servers of tests/servers."""

pytest_plugins = ("tests.servers.fixtures",)
