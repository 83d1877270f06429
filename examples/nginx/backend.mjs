// A backend that knows nothing of agentca but the sidecar's public key: it believes who calls by the assertion, and checks all of it.
// Usage: backend.mjs PUBLIC_KEY_FILE SPIFFE_ID_OF_THE_SERVICE
import { createHash, createPublicKey, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'

const [file, service] = process.argv.slice(2)
const key = createPublicKey(readFileSync(file))
const decoded = part => JSON.parse(Buffer.from(part, 'base64url'))

const callerOf = request => {
  const [header, payload, signature] = String(request.headers['agentca-assertion']).split('.')
  if (decoded(header).alg !== 'ES256') throw new Error('another algorithm')
  const signed = { key, dsaEncoding: 'ieee-p1363' }
  if (!verify('sha256', Buffer.from(`${header}.${payload}`), signed, Buffer.from(signature, 'base64url')))
    throw new Error('not signed by the sidecar')
  const claims = decoded(payload)
  const uriHash = createHash('sha256').update(request.url).digest('base64url')
  if (claims.iss !== service || claims.aud !== service) throw new Error('for another service')
  if (claims.exp * 1000 <= Date.now()) throw new Error('it has ended')
  if (claims.method !== request.method || claims.uriHash !== uriHash) throw new Error('about another call')
  return claims
}

const server = createServer((request, response) => {
  try {
    response.end(`hello ${callerOf(request).sub}\n`)
  } catch (error) {
    response.writeHead(403).end(`${error.message}\n`)
  }
})
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ event: 'listening', port: server.address().port })}\n`)
})
