"""What runs the course and teaches nothing: the batch runner and the benchmark."""
