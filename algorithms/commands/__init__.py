"""The commands of ``run.py``: the only place that may import both packages and that knows argparse."""
