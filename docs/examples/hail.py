"""Hails one ride and charges for it once, however often it is killed and started again: it keeps the ride's key in the
file ride.key. client.py must be beside it.
"""
import os, pathlib, sys

from client import Rides, new_key

if not (os.environ.get("API_URL") and os.environ.get("API_KEY")):
    sys.exit('API_URL and API_KEY must be set; for the sandbox: eval "$(bin/sandbox env)"')
kept = pathlib.Path("ride.key")
if not kept.exists():  # it gets its name when it is whole, so a kill leaves no key or all of it
    with open("ride.key.new", "w") as file:
        file.write(new_key())
        file.flush()
        os.fsync(file.fileno())
    os.replace("ride.key.new", kept)
key = kept.read_text()
if not key:
    sys.exit("ride.key is empty, and may have had the key of a ride: look at your rides, then remove it")
rides = Rides(os.environ["API_URL"], os.environ["API_KEY"])
ride = rides.hail({"lat": 37.7749, "lon": -122.4194}, {"lat": 37.8044, "lon": -122.2712}, key)
print(ride["id"], ride["status"], ride["fare"]["amount"], ride["fare"]["currency"])
