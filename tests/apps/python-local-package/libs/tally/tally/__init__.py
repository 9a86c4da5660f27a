def count(): return "three local sheep"
