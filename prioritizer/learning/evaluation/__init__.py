"""A run or a bundle judged on images, alone or against others."""
