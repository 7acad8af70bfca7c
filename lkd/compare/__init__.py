"""Methods compared over settings and seeds: `python cli.py compare configs/tradeoff/NAME.yaml`."""
