"""Training and evaluation; needs the extra `train` (torch, timm)."""
