"""`python -m service` is the `parley` command."""

from service.cli import main

main()
