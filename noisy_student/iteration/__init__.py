"""What `iterate.py` is made of beside the stages: jobs, checks, the record."""
