"""Last module that the fork server imports: what has been loaded is shared by all children and never collected."""

from __future__ import annotations

import gc

gc.collect()
gc.freeze()
