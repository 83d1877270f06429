// A certification request as callers send it: PEM, or base64 of its DER. Nothing inside it is looked at here.
import { fromBase64 } from '../base/bytes.ts'
import { csrTooLarge, csrUnreadable, maxCsrBytes } from '../pki/csr.ts'
import { parseOnePem } from '../pki/pem.ts'

/** @throws PkiError csr_malformed, csr_too_large, pem_malformed, pem_wrong_label, pem_private_key */
export const parseCsrText = (text: string): Uint8Array => {
  const der = text.includes('-----BEGIN') ? parseOnePem(text, 'CERTIFICATE REQUEST') : fromBase64(text.trim())
  if (der === null || der.length === 0) throw csrUnreadable()
  if (der.length > maxCsrBytes) throw csrTooLarge(der.length)
  return der
}
