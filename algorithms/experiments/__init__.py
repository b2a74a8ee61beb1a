"""What a run is told: its configuration, and the workloads and settings of papers, each in a TOML file.

reading     Experiment files: the workload and every algorithm's settings, as a paper states them, in TOML
run_config  The configuration of a run: what a command line, an experiment file and ``play`` say, checked once
"""
