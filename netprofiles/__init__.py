"""The profiles, traces and figures that ship, as data."""
