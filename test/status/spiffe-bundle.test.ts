import { createPublicKey, X509Certificate } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { IssuerView } from '../../src/ca/issuers.ts'
import { encodeSpiffeBundle } from '../../src/status/spiffe-bundle.ts'
import type { IssuerKind, IssuerState } from '../../src/store/records.ts'
import { createParty } from '../pki/crl-authority.ts'

const view = (
  id: number,
  state: IssuerState,
  kind: IssuerKind = 'root',
  keyAlgorithm: 'P-256' | 'P-384' | 'RSA' = 'P-256',
): IssuerView => {
  const { certificate } = createParty({ name: `ca ${id}`, keyAlgorithm })
  const record = {
    id,
    name: `ca-${id}`,
    kind,
    state,
    certificate: certificate.der,
    parentId: null,
    keyLabel: null,
    spkiHash: '',
    notBefore: 0,
    notAfter: 0,
    createdAt: 0,
  }
  return { record, certificate, online: null }
}

const read = (all: readonly IssuerView[]) => JSON.parse(encodeSpiffeBundle(all))

describe('the SPIFFE bundle', () => {
  it('has a key of every trusted root, with its one certificate and no key id (X509-SVID §6)', () => {
    const roots = [view(1, 'active', 'root', 'P-384'), view(2, 'prepared'), view(3, 'active', 'root', 'RSA')]
    const { keys } = read([...roots, view(4, 'active', 'issuing')])
    expect(keys).toHaveLength(3)
    for (const [i, key] of keys.entries()) {
      expect(key.use).toBe('x509-svid')
      expect(key).not.toHaveProperty('kid')
      expect(key.x5c).toHaveLength(1)
      const certificate = new X509Certificate(Buffer.from(key.x5c[0], 'base64'))
      expect(certificate.raw).toEqual(Buffer.from(roots[i]!.certificate.der))
      expect(createPublicKey({ key, format: 'jwk' }).equals(certificate.publicKey)).toBe(true)
    }
    expect(keys.map((key: { kty: string; crv?: string }) => key.crv ?? key.kty)).toEqual(['P-384', 'P-256', 'RSA'])
  })

  it('has a sequence number that grows with each root that comes or goes, and with nothing else', () => {
    const first = view(1, 'active')
    const second = view(2, 'prepared')
    const retired = { ...first, record: { ...first.record, state: 'retired' as const } }
    const states = [[first], [first, second], [retired, second]]
    expect(states.map(all => read(all).spiffe_sequence)).toEqual([1, 2, 3])
    expect(read([first, view(3, 'active', 'issuing')]).spiffe_sequence).toBe(1)
    expect(read([retired]).keys).toEqual([])
  })
})
