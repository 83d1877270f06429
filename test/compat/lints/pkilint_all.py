"""Runs the linters of pkilint, as its commands do, over files in DER and prints what they find from WARNING on as JSON, one array.

Arguments: KIND=FILE with certificate, crl or ocsp for KIND, and chain=ISSUER,SUBJECT. One process for all of them: loading takes a second.
"""

import contextlib
import io
import json
import sys

from pkilint.bin import (
    lint_crl,
    lint_ocsp_response,
    lint_pkix_cert,
    lint_pkix_signer_signee_cert_chain,
)

LINTERS = {
    "certificate": (lint_pkix_cert, []),
    "crl": (lint_crl, ["-t", "CRL", "-p", "PKIX"]),
    "ocsp": (lint_ocsp_response, []),
    "chain": (lint_pkix_signer_signee_cert_chain, []),
}


def findings(argument):
    kind, _, files = argument.partition("=")
    linter, options = LINTERS[kind]
    said = io.StringIO()
    command = ["lint", "-f", "JSON", "-s", "WARNING", *options, *files.split(",")]
    with contextlib.redirect_stdout(said):
        linter.main(command)
    for result in json.loads(said.getvalue())["results"]:
        for each in result["finding_descriptions"]:
            yield {
                "file": files.split(",")[-1],
                "lint": each["code"],
                "severity": each["severity"],
                "details": each["message"] or "",
            }


print(json.dumps([found for argument in sys.argv[1:] for found in findings(argument)]))
