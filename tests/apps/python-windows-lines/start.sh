#!/usr/bin/env bash
set -e
exec python server.py
