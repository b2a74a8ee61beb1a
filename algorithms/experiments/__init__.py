"""The workloads and settings of papers, each in a TOML file, and their reader.

reading  Experiment files: the workload and every algorithm's settings, as a paper states them, in TOML
"""
