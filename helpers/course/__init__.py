"""What runs the course and teaches nothing: the batch runner, sweeps and the benchmark."""

import sys

# With it, jsonschema compiles a grammar of addresses, which no notebook needs, for a second and more in each process.
sys.modules.setdefault("rfc3987_syntax", None)
