import time

print("thinking very hard", flush=True)
time.sleep(3600)
