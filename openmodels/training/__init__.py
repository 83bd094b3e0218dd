"""What learners train with."""
