import time

print("worker at work", flush=True)
while True:
    time.sleep(1)
