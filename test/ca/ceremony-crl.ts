// CRLs made the way a ceremony makes them: with the token open in this process, past the signer and its memory of numbers.
import { join } from 'node:path'
import type { Certificate } from '../../src/pki/certificate.ts'
import { assembleCrl, encodeTbsCertList, type RevokedEntry } from '../../src/pki/crl.ts'
import { keyIdentifier } from '../../src/pki/spki.ts'
import { openCeremonyToken } from '../../src/signer/ceremony-token.ts'
import { defaultSofthsmModule, softHsmPaths } from '../../src/signer/softhsm-token.ts'
import type { TestAuthority } from './authority.ts'

const day = 86_400_000

export interface CeremonyCrl {
  readonly number: bigint
  readonly entries?: readonly RevokedEntry[]
  readonly nextUpdate?: number
}

const createCrl = async (
  key: { readonly directory: string; readonly token: string; readonly label: string },
  certificate: Certificate,
  fields: CeremonyCrl,
): Promise<Uint8Array> => {
  const { confPath, pinFile } = softHsmPaths(key.directory)
  const uri = `pkcs11:token=${key.token}?module-path=${defaultSofthsmModule}&pin-source=file:${pinFile}`
  await using token = await openCeremonyToken(uri, { softhsmConf: confPath })
  const algorithm = certificate.spki.algorithm === 'P-384' ? 'ecdsa-with-SHA384' : 'ecdsa-with-SHA256'
  const tbs = encodeTbsCertList({
    issuerName: certificate.subjectDer,
    signatureAlgorithm: algorithm,
    authorityKeyId: certificate.subjectKeyIdentifier ?? keyIdentifier(certificate.spki),
    crlNumber: fields.number,
    thisUpdate: Date.now() - 1000,
    nextUpdate: fields.nextUpdate ?? Date.now() + 400 * day,
    entries: fields.entries ?? [],
  })
  return assembleCrl(tbs, algorithm, await token.findKey(key.label).sign(tbs))
}

export const createRootCrl = (ca: TestAuthority, fields: CeremonyCrl): Promise<Uint8Array> =>
  createCrl({ directory: join(ca.directory, 'root-ceremony'), token: 'agentca-root', label: 'root-1' }, ca.root, fields)

/** What only a ledger that was restored, or a thief of the token, would show us. */
export const createIssuingCrl = (ca: TestAuthority, fields: CeremonyCrl): Promise<Uint8Array> =>
  createCrl({ directory: join(ca.directory, 'tokens'), token: 'agentca', label: 'issuing-1' }, ca.issuing, fields)
