"""Commands over recorded runs, which they read and do not change but for files beside the record.

compare   ``run.py compare DIR DIR ...``: runs side by side
energy    ``run.py energy DIR``: joules of a record's clients, also by power numbers of other profiles
export    ``run.py export DIR``: a record's figures as files with a column each, for notebooks and spreadsheets
tracking  A record for experiment trackers: per round and method, through the tracker's own library
"""
