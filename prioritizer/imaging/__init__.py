"""Images as arrays: grey scale, resampling, the input of the network, heat map, and phantoms."""
