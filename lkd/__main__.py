"""`python -m lkd`: the same command line as `cli.py` and the `lkd` script."""

from lkd.cli import main

if __name__ == "__main__":
    main()
