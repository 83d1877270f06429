// The backend of the demonstration: an mTLS server under an identity of its own that judges every call by the caller's certificate and
// by the CRL it polls. Says what happens in JSON lines on stdout. Usage: backend.ts STATUS_URL ISSUER; the rest are AGENTCA_* paths.
import { constants } from 'node:crypto'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'
import { agentIdentity, tlsMaterialOf } from '../../src/agent/index.ts'
import { parseCertificate } from '../../src/pki/certificate.ts'
import { parseCrl } from '../../src/pki/crl.ts'
import { parsePem } from '../../src/pki/pem.ts'
import { serialHex } from '../../src/pki/serial.ts'
import { checkSignature } from '../../src/pki/signature.ts'

const [statusUrl, issuer] = process.argv.slice(2)
if (statusUrl === undefined || issuer === undefined) throw new Error('usage: backend.ts STATUS_URL ISSUER')
const pollMs = 50

const say = (event: string, facts: object): void => {
  process.stdout.write(`${JSON.stringify({ event, at: Date.now(), ...facts })}\n`)
}

const identity = await agentIdentity({ service: 'demo-backend' })
const credential = identity.current()
const [issuing] = parsePem(credential.chainPem, 'CERTIFICATE').map(parseCertificate)
if (issuing === undefined) throw new Error('expected a chain with the issuing CA')

/** Serials on the newest list; null before the first one: then nobody is served. */
let revoked: ReadonlySet<string> | null = null

const pollOnce = async (etag: string): Promise<string> => {
  const answer = await fetch(`${statusUrl}/crl/${issuer}.crl`, { headers: { 'if-none-match': etag } })
  if (answer.status !== 200) return etag
  const crl = parseCrl(new Uint8Array(await answer.arrayBuffer()))
  checkSignature(issuing.spki, crl.signatureAlgorithm, crl.tbs, crl.signature)
  revoked = new Set([...crl.entries()].map(entry => serialHex(entry.serial)))
  say('crl', { number: String(crl.crlNumber), entries: revoked.size })
  return answer.headers.get('etag') ?? ''
}

const poll = async (): Promise<never> => {
  let etag = ''
  for (;;) {
    etag = await pollOnce(etag).catch(() => etag)
    await sleep(pollMs)
  }
}
void poll()

const server = createServer(
  {
    ...tlsMaterialOf(credential),
    minVersion: 'TLSv1.3',
    secureOptions: constants.SSL_OP_NO_TICKET,
    requestCert: true,
    rejectUnauthorized: true,
  },
  (request, response) => {
    const peer = (request.socket as TLSSocket).getPeerX509Certificate()
    const serial = peer === undefined ? '' : parseCertificate(new Uint8Array(peer.raw)).serialHex
    const refused = revoked === null || revoked.has(serial)
    response.writeHead(refused ? 403 : 200, { 'content-type': 'text/plain' })
    response.end(refused ? 'revoked\n' : 'hello\n')
  },
)
server.listen(0, '127.0.0.1', () => say('listening', { port: (server.address() as AddressInfo).port }))
process.once('SIGTERM', () => process.exit(0))
