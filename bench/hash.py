"""A hash as the service stores it (passlib's bcrypt_sha256, version 2): hash.py PASSWORD COST"""

import base64
import hashlib
import hmac
import secrets
import sys
import warnings

warnings.simplefilter("ignore", DeprecationWarning)
import crypt  # noqa: E402, of Python up to 3.12

LETTERS = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

password, cost = sys.argv[1].encode(), int(sys.argv[2])
# The last letter holds two bits only.
salt = "".join(secrets.choice(LETTERS) for _ in range(21)) + secrets.choice(".Oeu")
key = base64.b64encode(hmac.digest(salt.encode(), password, hashlib.sha256)).decode()
digest = crypt.crypt(key, f"$2b${cost:02}${salt}")[-31:]
print(f"$bcrypt-sha256$v=2,t=2b,r={cost}${salt}${digest}")
