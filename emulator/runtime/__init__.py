"""The processes of a run: launched, supervised, ended; what each child does; the manifest that says what was played."""
