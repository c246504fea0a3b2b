"""A configuration that was changed while the daemon runs: what of it is taken up, and what waits for a restart."""

from __future__ import annotations

from prioritizer.config.settings import Settings

NEEDS_RESTART = ("site", "store", "model", "web", "log", "listener", "destinations")


def taken_up(running: Settings, new: Settings) -> tuple[Settings, list[str]]:
    """The settings to run by from now on, and the sections of `new` that wait for a restart. A site's name waits, its stage does not."""
    later = [name for name in NEEDS_RESTART if getattr(new, name) != getattr(running, name)]
    taken = new.model_copy(update={name: getattr(running, name) for name in later if name != "site"})
    if new.site.name != running.site.name:
        taken = taken.model_copy(update={"site": new.site.model_copy(update={"name": running.site.name})})
    return taken, [name for name in later if name != "site" or new.site.name != taken.site.name]
