"""Options that change nothing, and why: in a method at all, or beside what else is said. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NO_HALF = "its server trains no half"
NO_AUXILIARY = "it has no auxiliary"
NEVER = {  # by method: an option that its Config has since all have it, or a flag of the task's, and why
    "fedavg": {"server_lr": NO_HALF, "server_order": NO_HALF, "aux": NO_AUXILIARY, "cut": "its model is whole"},
    "sl": {"server_order": "its clients train one after another", "aux": NO_AUXILIARY},
    "splitfed-v1": {"server_order": "no two clients share a server half", "aux": NO_AUXILIARY},
    "splitfed-v2": {"aux": NO_AUXILIARY},
}
OF_ALIGNMENT = ("l", "stop_align", "align", "align_epochs", "align_batch", "align_lr", "buffer", "refresh_mode")


def beside(name: str, said: Mapping[str, Any]) -> dict[str, str]:
    """Options of a method that change nothing beside the others that are ``said``, and why."""
    found = {}
    if said.get("optimizer") == "sgd":
        found["betas"] = "sgd has none"
    if name == "local-loss" and said.get("server_copies") == "each":
        found["server_order"] = "no two clients share a server half"
    if name == "fsl-sage":
        if not said.get("warm_start"):
            found["aux_lr"] = "it is that of warm_start=true"
        causes = ("align", "none"), ("l", 0), ("stop_align", 0)
        cause, value = next(((key, value) for key, value in causes if said.get(key) == value), ("", None))
        if cause:
            found |= {key: f"with {cause}={value} nothing is aligned" for key in OF_ALIGNMENT if key != cause}
    dataset = str(said.get("task", {}).get("dataset", "digits"))
    if dataset == "digits" or dataset.startswith("synthetic:"):
        found["data_dir"] = f"{dataset} is in no folder"
    return found


def warnings(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each option or flag that is said and changes nothing in some of the methods, of which it names all.

    ``settings``: by method, what is said for it, over the defaults.
    """
    found: dict[tuple[str, Any, str], list[str]] = {}
    for name, said in settings.items():
        values = {**said.get("task", {}), **said}
        for key, why in {**NEVER.get(name, {}), **beside(name, said)}.items():
            if key in values:
                found.setdefault((key, str(values[key]), why), []).append(name)
    return [
        f"{key}={value}: changes nothing in {', '.join(names)}: {why}" for (key, value, why), names in found.items()
    ]
