// Parsers of short texts: names, numbers in letters, PEM, addresses, references.
import assert from 'node:assert/strict'
import { parseIdentifiers } from '../../src/acme/identifiers.ts'
import { readPayload } from '../../src/acme/payload.ts'
import { fromBase64, fromBase64url, fromHex, toBase64, toBase64url, toHex } from '../../src/base/bytes.ts'
import { parseCsrText } from '../../src/http/csr-text.ts'
import { csrOf } from '../../src/http/est.ts'
import { parseShardName } from '../../src/pki/crl-shards.ts'
import { ipAddressText, isDnsName, parseIpAddress } from '../../src/pki/host-names.ts'
import { ipNetworkText, isAddressIn, isNetworkWithin, parseIpNetwork } from '../../src/pki/ip-networks.ts'
import { parseOcspPath } from '../../src/pki/ocsp.ts'
import { encodePem, parsePem } from '../../src/pki/pem.ts'
import { parseSerialHex } from '../../src/pki/serial.ts'
import { readSignedNote } from '../../src/pki/signed-note.ts'
import { parseSpiffeId, parseTrustDomain, principalOf, trustDomainOf } from '../../src/pki/spiffe.ts'
import { parseAddress } from '../../src/schema/config.ts'
import { parseDuration } from '../../src/schema/document.ts'
import { parsePkcs11Uri } from '../../src/signer/pkcs11-uri.ts'
import { parseCallTarget } from '../../src/verifier/sidecar/call-target.ts'
import { certificateFormats, readCertificateHeader } from '../../src/verifier/sidecar/certificate-header.ts'
import { parseRequirement } from '../../src/verifier/sidecar/requirements.ts'
import { parsePosition } from '../../src/verify/feed-event.ts'
import { type FuzzTarget, textTarget } from './target.ts'

const head = 'A'.repeat(43)
const note = `agentca/0123\n12\n${head}=\ntime 2026-11-24T12:00:00Z\n\n\u2014 agentca/0123 MEQCIA==\n`
const pem = '-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n'
const escaped = encodeURIComponent(pem)
const ocspPath =
  'ME0wSzBJMEcwRTAJBgUrDgMCGgUABBRVa60Xz2Xx9k7C1uSbw9yf0wAAAQQUVWutF89l8fZOwtbkm8Pcn9MAAAECDAEaIM2e9upJlhdnaA=='

const jsonTarget = (
  name: string,
  seeds: readonly unknown[],
  words: readonly string[],
  read: (text: string) => unknown,
) =>
  textTarget({
    name,
    seeds: seeds.map(each => JSON.stringify(each)),
    words: [...words, '{', '}', '[', ']', ',', ':', 'null', '"'],
    read,
  })

export const textTargets: readonly FuzzTarget[] = [
  textTarget({
    name: 'base64url',
    seeds: ['', 'AA', 'AAA', 'c1LROH7e', '_-_-'],
    words: ['=', '+', '/', ' ', '\n'],
    read: fromBase64url,
    write: { exact: true, of: toBase64url },
  }),
  textTarget({
    name: 'base64',
    seeds: ['', 'AA==', 'AAA=', 'c1LROH7e', '+/+/'],
    words: ['=', '-', '_', ' ', '\n'],
    read: fromBase64,
    write: { exact: true, of: toBase64 },
  }),
  textTarget({ name: 'hex', seeds: ['', '00', 'ffAA'], read: fromHex, write: { exact: false, of: toHex } }),
  textTarget({
    name: 'pem',
    seeds: [pem, pem + pem, pem.replaceAll('\n', '\r\n'), `\n${pem}\n`],
    words: ['-----BEGIN ', '-----END ', '-----', 'CERTIFICATE', 'PRIVATE KEY', 'NEW ', '\r\n', '\n', '\t', '='],
    read: text => parsePem(text, 'CERTIFICATE'),
    write: { exact: false, of: (blocks: Uint8Array[]) => blocks.map(der => encodePem('CERTIFICATE', der)).join('') },
  }),
  textTarget({
    name: 'csr-text',
    seeds: ['MAA=', ' MAA= ', pem.replaceAll('CERTIFICATE', 'CERTIFICATE REQUEST')],
    words: ['-----BEGIN ', 'CERTIFICATE REQUEST', '-----'],
    read: parseCsrText,
  }),
  textTarget({
    name: 'est-body',
    seeds: ['MAA=', 'M\r\nA\nA =\t'],
    words: ['\r\n', '=', ' '],
    read: text => csrOf(new Uint8Array(Buffer.from(text))),
    write: { exact: false, of: toBase64 },
  }),
  textTarget({
    name: 'spiffe-id',
    seeds: [
      'spiffe://example.org',
      'spiffe://agentca.local/agent/a-b/i/00ff',
      'spiffe://x/service/s',
      'spiffe://x/a/.b/..c',
    ],
    words: ['spiffe://', '/agent/', '/service/', '/operator/', '/i/', '..', './', '//', '%2e', '?', '#'],
    read: text => {
      const id = parseSpiffeId(text)
      parseTrustDomain(trustDomainOf(id))
      return { id, principal: principalOf(id) }
    },
    write: { exact: true, of: ({ id }: { id: string }) => id },
  }),
  textTarget({
    name: 'host-name',
    seeds: ['a.example', '*.b.example', 'localhost', 'xn--bcher-kva.example', 'a_b.example'],
    words: ['.', '-', '*', 'xn--', '..', '\u00e4'],
    read: text => (isDnsName(text) ? text : null),
    write: { exact: true, of: (name: string) => name },
  }),
  textTarget({
    name: 'ip-address',
    seeds: ['192.0.2.7', '::', '2001:db8::1', '::ffff:192.0.2.7', '1:2:3:4:5:6:7:8', 'fe80::1%eth0'],
    words: ['::', ':', '.', '255', 'ffff', '0x', '%', '/'],
    read: parseIpAddress,
    write: { exact: false, of: ipAddressText },
  }),
  textTarget({
    name: 'ip-network',
    seeds: ['192.0.2.0/24', '2001:db8::/32', '0.0.0.0/0', '::/0', '10.0.0.1/32'],
    words: ['/', '::', '/128', '/33'],
    read: text => {
      const network = parseIpNetwork(text)
      if (network === null) return null
      assert.ok(isNetworkWithin(network, network) && isAddressIn(network.octets, network))
      return network
    },
    write: { exact: false, of: ipNetworkText },
  }),
  textTarget({ name: 'serial', seeds: ['01', '011a20cd9ef6eaa49961768726fce78c', '00ff', 'FF'], read: parseSerialHex }),
  textTarget({ name: 'shard-name', seeds: ['1-of-4', '16-of-16', '5-of-4'], read: parseShardName }),
  textTarget({ name: 'feed-position', seeds: ['0123456789abcdef.0', '0123456789abcdef.42'], read: parsePosition }),
  textTarget({ name: 'duration', seeds: ['90s', '10m', '1h', '30d'], read: parseDuration }),
  textTarget({
    name: 'listen-address',
    seeds: ['127.0.0.1:8443', '[::1]:0', ':80'],
    words: ['[', ']', ':'],
    read: parseAddress,
  }),
  textTarget({
    name: 'signed-note',
    seeds: [note],
    words: ['\u2014 ', 'time ', '\n\n', 'Z', '9999-99-99T99:99:99Z', '999999999999999'],
    read: text => {
      const read = readSignedNote(text)
      return typeof read === 'string' ? null : read
    },
  }),
  textTarget({
    name: 'ocsp-path',
    seeds: [ocspPath, encodeURIComponent(ocspPath), `/${ocspPath}`],
    words: ['%2F', '%2B', '%3D', '/', '+', '%', '='],
    read: parseOcspPath,
  }),
  textTarget({
    name: 'pkcs11-uri',
    seeds: [
      'pkcs11:token=agentca;object=issuing-1?module-path=/usr/lib/x.so&pin-source=file:/run/pin',
      'pkcs11:id=%00%ff',
    ],
    words: [
      'pkcs11:',
      'token=',
      'object=',
      'slot-id=',
      'module-path=',
      'pin-source=',
      'pin-value=',
      '%',
      ';',
      '&',
      '?',
      '%zz',
    ],
    read: parsePkcs11Uri,
  }),
  textTarget({
    name: 'client-cert-header',
    seeds: [
      ':MAA=:',
      'MAA=',
      'MAA=,MAA=',
      escaped,
      `Hash=00;Cert="${escaped}";Chain="${escaped}"`,
      `By=a;URI="b\\"c";Cert=${escaped}`,
    ],
    words: [':', ',', ';', '"', '\\', 'Cert=', 'Chain=', 'Hash=', 'URI=', '%0A', '%', '='],
    maxLength: 16_384,
    read: text =>
      certificateFormats.map(format => {
        try {
          return readCertificateHeader(format, text)
        } catch (error) {
          assert.equal((error as { code?: unknown }).code, 'certificate_header_malformed')
          return null
        }
      }),
  }),
  textTarget({
    name: 'call-target',
    seeds: ['/orders?id=1', '/a/../b', '/a%2f..%2fb', '//x', 'https://x/y'],
    words: ['%2e', '%2f', '..', '//', '?', '#', '\\', '%00', ';', 'http://'],
    read: text => parseCallTarget('GET', text),
  }),
  textTarget({
    name: 'requirement',
    seeds: ['GET /orders=orders:read', '* /x/=*', 'POST /orders/a%2fb=orders:write'],
    words: ['*', ' /', '=', ':', '%2e', '..', '//', '?'],
    read: parseRequirement,
  }),
  jsonTarget(
    'acme-payload',
    [
      { identifiers: [{ type: 'dns', value: 'a.example' }] },
      {
        identifiers: [
          { type: 'ip', value: '192.0.2.7' },
          { type: 'dns', value: '*.A.example' },
        ],
      },
    ],
    ['"identifiers"', '"type"', '"value"', '"dns"', '"ip"', '"__proto__"', '\\u0000'],
    text => parseIdentifiers(readPayload(new Uint8Array(Buffer.from(text))).identifiers),
  ),
]
