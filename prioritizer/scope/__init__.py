"""What may be scored: rules on the header, the kind of image, and whether it is like the images of training."""
