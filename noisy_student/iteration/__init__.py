"""What `iterate.py` is made of beside the stages: jobs, checks, files."""
