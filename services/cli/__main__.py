"""`python -m services.cli`: the `twin` command."""

from services.cli import main

main()
