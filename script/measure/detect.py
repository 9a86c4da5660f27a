"""How long `paas detect` takes on a large checkout."""

import os
import statistics
import subprocess
import tempfile

from basics import Failure, detail, now, say

FILES = 10_000
ALLOWED = 100  # milliseconds


def checkout(folder):
    """A repository as large ones are: many folders, several languages."""
    texts = {
        "py": "import os\n\n\ndef one():\n    return 1\n" * 10,
        "go": "package pkg\n\nfunc One() int { return 1 }\n" * 10,
        "js": "export const one = 1;\n" * 20,
        "css": "a { color: teal }\n" * 20,
    }
    suffixes = list(texts)
    for number in range(FILES - 2):
        suffix = suffixes[number % len(suffixes)]
        path = os.path.join(folder, "src", f"part{number // 100:03}", f"file{number % 100:02}.{suffix}")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(texts[suffix])


LANGUAGES = {
    "Python": {"requirements.txt": "flask\n", "app.py": "from flask import Flask\napp = Flask(__name__)\n"},
    "Go": {"go.mod": "module example.com/large\n\ngo 1.21\n", "main.go": "package main\n\nfunc main() {}\n"},
    "Node": {"package.json": '{"scripts": {"start": "node index.js"}}', "index.js": ""},
}


def measure_detect(stage, rounds):
    figures = []
    with tempfile.TemporaryDirectory(prefix="paas-detect.") as folder:
        checkout(folder)
        say(f"paas detect on {FILES} files")
        for language, files in LANGUAGES.items():
            for name, text in files.items():
                with open(os.path.join(folder, name), "w") as file:
                    file.write(text)
            times = []
            for _ in range(rounds):
                begin = now()
                done = subprocess.run([stage.paas, "detect", folder], capture_output=True, text=True)
                times.append(now() - begin)
                if done.returncode != 0:
                    raise Failure(f"paas detect failed:\n{done.stderr}")
            for name in files:
                os.remove(os.path.join(folder, name))
            middle = statistics.median(times)
            detail(f"{language:14}{middle:8.1f} ms  ({min(times):.1f}–{max(times):.1f})")
            figures.append((f"detect-{language.lower()}", middle / ALLOWED, f"ms / the {ALLOWED} ms allowed"))
    return figures
