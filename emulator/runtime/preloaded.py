"""Last module that the fork server imports: what has been loaded is shared by all children and never collected.

Users' own methods come here, one by one: the mistake of one that cannot be imported is told by the child that needs it,
and the others are played.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os

from emulator.processes import METHODS_VARIABLE

for _name in filter(None, os.environ.pop(METHODS_VARIABLE, "").split(",")):
    with contextlib.suppress(Exception, SystemExit):
        importlib.import_module(_name)
gc.collect()
gc.freeze()
