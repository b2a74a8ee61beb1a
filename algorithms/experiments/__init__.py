"""The workloads and settings of papers, each in a TOML file, and their reader."""
