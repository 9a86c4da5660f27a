import requests

print(requests.get("https://example.com/feed").status_code)
