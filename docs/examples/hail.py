"""Hails one ride and charges for it once, however often it is started and whatever dies meanwhile: it keeps the ride's
key in the file ride.key. client.py must be beside it.
"""
import os, pathlib

from client import Rides, new_key

kept = pathlib.Path("ride.key")
if not kept.exists():
    kept.write_text(new_key())
rides = Rides(os.environ["API_URL"], os.environ["API_KEY"])
ride = rides.hail({"lat": 37.7749, "lon": -122.4194}, {"lat": 37.8044, "lon": -122.2712}, kept.read_text())
print(ride["id"], ride["status"], ride["fare"]["amount"], ride["fare"]["currency"])
