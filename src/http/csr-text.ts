// A certification request as callers send it: PEM, or base64 of its DER. Nothing inside it is looked at here.
import { fromBase64 } from '../base/bytes.ts'
import { maxCsrBytes } from '../pki/csr.ts'
import { PkiError } from '../pki/errors.ts'
import { parseOnePem } from '../pki/pem.ts'

/** @throws PkiError csr_malformed, csr_too_large, pem_malformed, pem_wrong_label, pem_private_key */
export const parseCsrText = (text: string): Uint8Array => {
  const der = text.includes('-----BEGIN') ? parseOnePem(text, 'CERTIFICATE REQUEST') : fromBase64(text.trim())
  if (der === null || der.length === 0)
    throw new PkiError('csr_malformed', 'expected a certification request as PEM, or as base64 of its DER')
  if (der.length > maxCsrBytes)
    throw new PkiError('csr_too_large', `a certification request has at most ${maxCsrBytes} bytes, got ${der.length}`)
  return der
}
