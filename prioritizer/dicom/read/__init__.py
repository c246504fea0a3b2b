"""From a file to header and pixels, bounded, with codecs in a sandbox."""
