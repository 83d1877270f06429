// Each proxy's form of a client certificate in a header, from real DER; and what none of them may be read as.
import { execFileSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { toBase64 } from '../../../src/base/bytes.ts'
import { encodePem } from '../../../src/pki/pem.ts'
import { type CertificateFormat, readCertificateHeader } from '../../../src/verifier/sidecar/certificate-header.ts'

const certificate = (name: string): Uint8Array => {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', '/dev/null']
  const args = ['req', '-x509', ...key, '-subj', `/CN=${name}`, '-outform', 'DER']
  return new Uint8Array(execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'ignore'] }))
}
const [leaf, issuer] = [certificate('leaf'), certificate('issuer')]

const refused = (format: CertificateFormat, text: string, chain: string | null = null): string => {
  try {
    readCertificateHeader(format, text, chain)
    return 'accepted'
  } catch (error) {
    return (error as { code: string }).code
  }
}
const pem = (der: Uint8Array): string => encodePem('CERTIFICATE', der)
/** As nginx does it (NGX_ESCAPE_URI_COMPONENT). */
const escaped = (der: Uint8Array): string => encodeURIComponent(pem(der))

describe('the certificate in a header', () => {
  it('is percent-encoded PEM from nginx', () => {
    expect(readCertificateHeader('nginx', escaped(leaf))).toEqual([leaf])
    expect(refused('nginx', escaped(leaf) + escaped(issuer))).toBe('certificate_header_malformed')
    expect(refused('nginx', '%E0%A4%A')).toBe('certificate_header_malformed')
    expect(refused('nginx', encodeURIComponent(pem(leaf).replaceAll('CERTIFICATE', 'PRIVATE KEY')))).toBe(
      'certificate_header_malformed',
    )
  })

  it('is base64 of DER from HAProxy and Caddy', () => {
    for (const format of ['haproxy', 'caddy'] as const) {
      expect(readCertificateHeader(format, toBase64(leaf))).toEqual([leaf])
      // Two header lines that a proxy joined.
      expect(refused(format, `${toBase64(leaf)}, ${toBase64(leaf)}`)).toBe('certificate_header_malformed')
      expect(refused(format, escaped(leaf))).toBe('certificate_header_malformed')
    }
  })

  it('is PEM without delimiters and line ends from Traefik, the chain after commas', () => {
    const bare = (der: Uint8Array): string =>
      pem(der)
        .replaceAll(/-----[A-Z ]+-----/g, '')
        .replaceAll('\n', '')
    expect(readCertificateHeader('traefik', bare(leaf))).toEqual([leaf])
    expect(readCertificateHeader('traefik', `${bare(leaf)},${bare(issuer)}`)).toEqual([leaf, issuer])
    expect(refused('traefik', `${bare(leaf)},`)).toBe('certificate_header_malformed')
  })

  it("is Cert, or the first of Chain, of Envoy's one X-Forwarded-Client-Cert element", () => {
    const hash = `Hash=${'a'.repeat(64)}`
    expect(readCertificateHeader('envoy', `${hash};Cert="${escaped(leaf)}"`)).toEqual([leaf])
    const whole = `By=spiffe://a/service/edge;${hash};Subject="CN=\\"x\\",O=y";URI=spiffe://a/agent/b/i/c;URI=spiffe://d`
    const chain = `Chain="${escaped(leaf)}${escaped(issuer)}"`
    expect(readCertificateHeader('envoy', `${whole};${chain}`)).toEqual([leaf, issuer])
    expect(readCertificateHeader('envoy', `Cert="${escaped(leaf)}";${chain}`)).toEqual([leaf, issuer])
    expect(refused('envoy', hash)).toBe('certificate_header_malformed')
    // What another proxy, or the client itself, said before: not this proxy's word.
    const two = `Cert="${escaped(issuer)}",${hash};Cert="${escaped(leaf)}"`
    expect(refused('envoy', two)).toBe('certificate_header_malformed')
    expect(refused('envoy', `Cert="${escaped(issuer)}";Cert="${escaped(leaf)}"`)).toBe('certificate_header_malformed')
  })

  it('is a byte sequence by RFC 9440, its chain a list of them', () => {
    const item = (der: Uint8Array): string => `:${toBase64(der)}:`
    expect(readCertificateHeader('rfc9440', item(leaf))).toEqual([leaf])
    expect(readCertificateHeader('rfc9440', item(leaf), `${item(issuer)}, ${item(issuer)}`)).toEqual([
      leaf,
      issuer,
      issuer,
    ])
    for (const text of [toBase64(leaf), `${item(leaf)}, ${item(leaf)}`, `${item(leaf)};a=1`, '::'])
      expect(refused('rfc9440', text), text.slice(0, 20)).toBe('certificate_header_malformed')
    expect(refused('rfc9440', item(leaf), Array(10).fill(item(issuer)).join(','))).toBe('certificate_header_malformed')
  })
})
