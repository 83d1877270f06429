"""An agent in Python: `requests` with the files that `agentca-agent run` keeps in a directory.

Usage: agent.py DIRECTORY URL SPIFFE_ID_OF_THE_BACKEND
"""
import json
import ssl
import sys
import time

import requests
from requests.adapters import HTTPAdapter

directory, url, peer = sys.argv[1:4]


class AgentContext(ssl.SSLContext):
    """mTLS that asks who the server is before anything is sent: a name in the DNS is not an identity."""

    def wrap_socket(self, *args, **kwargs):
        sock = super().wrap_socket(*args, **kwargs)
        names = [value for kind, value in sock.getpeercert().get("subjectAltName", ()) if kind == "URI"]
        if names != [peer]:
            sock.close()
            raise ssl.SSLError(f"expected {peer}, got {names}")
        return sock


def agent_context():
    context = AgentContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(f"{directory}/ca.crt")
    # One file holds key and certificate, so that they always fit each other.
    context.load_cert_chain(f"{directory}/credential-bundle.pem")
    return context


class AgentAdapter(HTTPAdapter):
    def init_poolmanager(self, *args, **kwargs):
        super().init_poolmanager(*args, ssl_context=agent_context(), **kwargs)


def say(**facts):
    print(json.dumps(facts), flush=True)


while True:
    # Renewed files are used from the next session on.
    with requests.Session() as session:
        session.mount("https://", AgentAdapter())
        session.verify = f"{directory}/ca.crt"
        try:
            answer = session.get(url, timeout=10)
        except requests.exceptions.ConnectionError as error:
            say(event="cut", reason=str(error))
        else:
            say(event="called", status=answer.status_code, body=answer.text)
            if answer.status_code != 200:
                sys.exit(0)
    time.sleep(0.1)
