// What certificates' URLs lead to in these tests: a CRL and OCSP answers by a software CA, over real HTTP.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { assembleCrl, encodeTbsCertList } from '../../src/pki/crl.ts'
import {
  assembleBasicOcspResponse,
  type CertStatus,
  encodeOcspError,
  encodeTbsResponseData,
  parseOcspRequest,
} from '../../src/pki/ocsp.ts'
import type { TestParty } from '../pki/crl-authority.ts'

export interface StatusServer extends AsyncDisposable {
  readonly url: string
  /** What OCSP says of every certificate. */
  status: CertStatus | 'tryLater'
  /** Serials (content of the INTEGER) on the CRL. */
  revoked: readonly Uint8Array[]
  /** How often the CRL was fetched. */
  crlFetches: number
}

const crlOf = (ca: TestParty, serials: readonly Uint8Array[]): Uint8Array => {
  const now = Date.now()
  const tbs = encodeTbsCertList({
    issuerName: ca.certificate.subjectDer,
    signatureAlgorithm: ca.algorithm,
    authorityKeyId: ca.keyId,
    crlNumber: BigInt(now),
    thisUpdate: now - 60_000,
    nextUpdate: now + 3_600_000,
    entries: serials.map(serial => ({ serial, revokedAt: now, reason: 'keyCompromise' as const })),
  })
  return assembleCrl(tbs, ca.algorithm, ca.sign(tbs))
}

const ocspAnswer = (ca: TestParty, request: Uint8Array, status: CertStatus | 'tryLater'): Uint8Array => {
  if (status === 'tryLater') return encodeOcspError('tryLater')
  const parsed = parseOcspRequest(request)
  const tbs = encodeTbsResponseData({
    responderId: { byKey: ca.keyId },
    producedAt: Date.now(),
    responses: parsed.certIds.map(certId => ({
      certIdDer: certId.der,
      status,
      thisUpdate: Date.now(),
      nextUpdate: Date.now() + 3_600_000,
    })),
  })
  return assembleBasicOcspResponse(tbs, ca.algorithm, ca.sign(tbs), [])
}

/** Answers for one CA: its CRL at /ca.crl, OCSP at /ocsp, its own certificate at /ca.cer. */
export const startStatusServer = async (ca: TestParty): Promise<StatusServer> => {
  const state = { status: 'good' as CertStatus | 'tryLater', revoked: [] as readonly Uint8Array[], crlFetches: 0 }
  const server = createServer(async (request, response) => {
    if (request.url === '/ca.crl') {
      state.crlFetches++
      response.end(crlOf(ca, state.revoked))
    } else if (request.url === '/ca.cer') response.end(ca.certificate.der)
    else if (request.url === '/moved') response.writeHead(302, { location: '/ca.crl' }).end()
    else if (request.url === '/ocsp' && request.method === 'POST')
      response.end(ocspAnswer(ca, new Uint8Array(await buffer(request)), state.status))
    else response.writeHead(404).end()
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return Object.assign(state, {
    url,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  })
}
