"""The flags of a run, and the settings that they and an experiment choose for each method."""
