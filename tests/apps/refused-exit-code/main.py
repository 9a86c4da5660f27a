import sys

print("no database configured", file=sys.stderr)
sys.exit(3)
