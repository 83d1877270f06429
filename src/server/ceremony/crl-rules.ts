// What a CRL that a ceremony made must be, read back by our own strict parser. OpenSSL is the judge after it (judge.ts).
import { equalBytes, toHex } from '../../base/bytes.ts'
import type { Certificate } from '../../pki/certificate.ts'
import type { Crl, RevokedEntry } from '../../pki/crl.ts'
import { serialHex } from '../../pki/serial.ts'
import { verifySignature } from '../../pki/signature.ts'
import { keyIdentifier } from '../../pki/spki.ts'
import { timeText } from './draft.ts'
import { differs, type Rule, unless } from './rules.ts'

export interface ExpectedCrl {
  readonly issuer: Certificate
  readonly number: bigint
  readonly previousNumber: bigint | null
  readonly thisUpdate: number
  readonly nextUpdate: number
  readonly entries: readonly RevokedEntry[]
}

const entriesText = (entries: Iterable<RevokedEntry>): string =>
  [...entries]
    .map(({ serial, revokedAt, reason }) => `${serialHex(serial)} ${timeText(revokedAt)} ${reason ?? 'unspecified'}`)
    .toSorted()
    .join(', ')

export const crlRules: readonly Rule<Crl, ExpectedCrl>[] = [
  {
    rule: 'version 2, no delta, complete for its issuer',
    source: 'RFC 5280 §5.1.2.1, §5.2.4, §5.2.5',
    fault: crl =>
      differs(crl.version, 2) ??
      unless(crl.deltaCrlIndicator === null && crl.distributionPoint === null, 'it covers only a part') ??
      differs(crl.unknownCritical.join(), ''),
  },
  {
    rule: 'issuer name and key identifier',
    source: 'RFC 5280 §5.1.2.3, §5.2.1',
    fault: (crl, { issuer }) =>
      unless(equalBytes(crl.issuerName, issuer.subjectDer), 'it is not the issuer’s subject') ??
      differs(
        toHex(crl.authorityKeyId?.keyId ?? new Uint8Array()),
        toHex(issuer.subjectKeyIdentifier ?? keyIdentifier(issuer.spki)),
      ),
  },
  {
    rule: 'the signature verifies with the issuer’s key',
    source: 'RFC 5280 §6.3.3 (g)',
    fault: (crl, { issuer }) =>
      unless(verifySignature(issuer.spki, crl.signatureAlgorithm, crl.tbs, crl.signature), 'it does not'),
  },
  {
    rule: 'the number grows',
    source: 'RFC 5280 §5.2.3',
    fault: (crl, { number, previousNumber }) =>
      differs(String(crl.crlNumber), String(number)) ??
      unless(previousNumber === null || number > previousNumber, `the published list has number ${previousNumber}`),
  },
  {
    rule: 'this update and next update',
    source: 'RFC 5280 §5.1.2.4, §5.1.2.5',
    fault: (crl, { thisUpdate, nextUpdate }) =>
      differs(
        [crl.thisUpdate, crl.nextUpdate ?? 0].map(timeText).join(),
        [thisUpdate, nextUpdate].map(timeText).join(),
      ),
  },
  {
    rule: 'the entries are those of the input',
    source: 'this ceremony',
    fault: (crl, { entries }) => differs(entriesText(crl.entries()), entriesText(entries)),
  },
]
