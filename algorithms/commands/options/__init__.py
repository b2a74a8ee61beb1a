"""The flags of a run, and the settings that they and an experiment choose for each method.

flags      Flags of a command line, whose mistakes are told like any other
overrides  What a command line chooses: algorithms, the settings of each, the seed
run_flags  The command line of a run, made from the knobs of its configuration
"""
