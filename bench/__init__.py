"""Measures the budget: what each part costs, as ratios inside one run (`make bench`)."""
