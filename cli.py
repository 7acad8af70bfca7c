"""The command line of lkd: `python cli.py fit --config configs/parking/oracle.yaml`."""

from lkd.cli import main

if __name__ == "__main__":
    main()
