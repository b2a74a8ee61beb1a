"""FSL-SAGE: the method itself, the alignment of its auxiliaries, and its first round as one of CSE-FSL."""

from algorithms.fsl_sage.method import MESSAGES, Config, Global, Initial, Smashed, Update, client, server, warnings

__all__ = ["MESSAGES", "Config", "Global", "Initial", "Smashed", "Update", "client", "server", "warnings"]
