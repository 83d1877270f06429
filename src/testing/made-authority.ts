// What `agentca init` makes with an HSM, made in memory: a root and an issuing CA that say what they are in their names, the root's CRL,
// and a ledger that begins as every ledger does.
import { randomBytes } from 'node:crypto'
import { toHex } from '../base/bytes.ts'
import type { Log } from '../base/log.ts'
import { readPublishedCrl, rootCrlOf } from '../ca/published-crl.ts'
import { signatureAlgorithmFor } from '../pki/algorithms.ts'
import type { Certificate } from '../pki/certificate.ts'
import { assembleCrl, encodeTbsCertList } from '../pki/crl.ts'
import { buildCaCertificate } from '../pki/peculiar.ts'
import { encodeSerial } from '../pki/serial.ts'
import { keyIdentifier } from '../pki/spki.ts'
import { fillLedger } from '../server/init-ledger.ts'
import { issuingName, rootName } from '../server/init-places.ts'
import { logKeyLabel, responderKeyLabel } from '../server/signer-config.ts'
import type { Ledger } from '../store/ports.ts'
import { marking } from './guard.ts'
import { externalKey, makeSoftwareKey, type SoftwareKey } from './software-keys.ts'
import type { HeldKey } from './software-signer.ts'

const day = 86_400_000

export interface MadeAuthority {
  readonly root: Certificate
  readonly issuing: Certificate
  readonly rootCrl: Uint8Array
  readonly keys: readonly HeldKey[]
}

const serial = (nowMs: number): Uint8Array => encodeSerial({ prefix: 1, nowMs, random10: randomBytes(10) })

/** A list with nobody on it: OpenSSL-based verifiers want one of every CA in the chain. */
const emptyCrl = (root: Certificate, key: SoftwareKey, now: number): Uint8Array => {
  const signatureAlgorithm = signatureAlgorithmFor(root.spki.algorithm)
  const thisUpdate = Math.floor(now / 1000) * 1000
  const tbs = encodeTbsCertList({
    issuerName: root.subjectDer,
    signatureAlgorithm,
    authorityKeyId: root.subjectKeyIdentifier ?? keyIdentifier(root.spki),
    crlNumber: BigInt(now),
    thisUpdate,
    nextUpdate: thisUpdate + 30 * day,
    entries: [],
  })
  return assembleCrl(tbs, signatureAlgorithm, key.sign(tbs))
}

export const makeAuthority = async (now: number): Promise<MadeAuthority> => {
  const rootKey = makeSoftwareKey(rootName)
  const issuingKey = makeSoftwareKey(issuingName)
  const life = { notBefore: now - day, notAfter: now + 365 * day }
  const root = await buildCaCertificate({
    ...life,
    subject: [['CN', `${marking} agentca root`]],
    spki: rootKey.spki,
    issuer: 'self',
    issuerKey: externalKey(rootKey),
    serial: serial(now),
    pathLength: null,
  })
  const issuing = await buildCaCertificate({
    ...life,
    subject: [['CN', `${marking} agentca issuing`]],
    spki: issuingKey.spki,
    issuer: root,
    issuerKey: externalKey(rootKey),
    serial: serial(now),
    pathLength: 0,
  })
  return {
    root,
    issuing,
    rootCrl: emptyCrl(root, rootKey, now),
    keys: [
      { key: issuingKey, purposes: ['leaf', 'crl', 'ocsp-responder', 'test-sign'], certificate: issuing },
      { key: makeSoftwareKey(responderKeyLabel), purposes: ['ocsp-response', 'test-sign'] },
      { key: makeSoftwareKey(logKeyLabel), purposes: ['checkpoint', 'test-sign'] },
    ],
  }
}

export interface LedgerBeginning {
  readonly trustDomain: string
  readonly urls: { readonly api: string; readonly status: string }
  /** An empty directory: no ceremony was held. */
  readonly ceremonies: string
  readonly now: number
  readonly log: Log
}

export const beginLedger = async (ledger: Ledger, made: MadeAuthority, beginning: LedgerBeginning): Promise<void> => {
  const { trustDomain, urls, ceremonies, now, log } = beginning
  const { root, issuing, rootCrl } = made
  await fillLedger(ledger, {
    record: {
      version: 1,
      state: 'done',
      caId: toHex(randomBytes(16)),
      trustDomain,
      urls,
      hsmUri: null,
      createdAt: now,
      rootFingerprint: null,
    },
    root,
    issuing,
    rootCrl: readPublishedCrl(rootCrlOf(rootName, root), rootCrl),
    ceremonies,
    now,
    log,
  })
}
