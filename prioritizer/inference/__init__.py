"""Bundles, engines and the processes they run in. Serving here never imports torch."""
