"""What Python's cryptography finds in a PKCS#12 file: the file, and a file with its password. Prints JSON."""

import json
import sys

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

with open(sys.argv[1], "rb") as store, open(sys.argv[2], "rb") as password:
    found = pkcs12.load_pkcs12(store.read(), password.read().strip())


def pem(certificate):
    return certificate.certificate.public_bytes(Encoding.PEM).decode()


print(
    json.dumps(
        {
            "name": found.cert and found.cert.friendly_name.decode(),
            "key": found.key
            and found.key.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ).decode(),
            "certificates": [
                pem(each) for each in ([found.cert] if found.cert else []) + found.additional_certs
            ],
        }
    )
)
