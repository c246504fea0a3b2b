"""From a finished run to a bundle: graph, guard, first maps, card."""
