"""What a cohort holds, and what its files give away of the label."""
