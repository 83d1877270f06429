// Relying parties of a story: they fetch lists, ask OCSP and collect checkpoints all the time, believe only what verifies, and remember
// everything they saw and every time they got nothing.
import { setTimeout as delay } from 'node:timers/promises'
import { Pool } from 'undici'
import { messageOf } from '../../src/base/errors.ts'
import { parseCrl } from '../../src/pki/crl.ts'
import { checkOcspResponse, encodeCertId, encodeOcspRequest, parseOcspResponse } from '../../src/pki/ocsp.ts'
import { checkSignature } from '../../src/pki/signature.ts'
import type { StoryHome } from './ca-process.ts'
import type { Evidence } from './invariants.ts'

/** `unavailable`: tryLater. */
export type OcspWord = 'good' | 'revoked' | 'unknown' | 'unavailable'

export interface RelyingParty {
  /** One question. @throws Error when nobody answers, PkiError for an answer that is not to be believed */
  ocsp(serial: string): Promise<OcspWord>
  /** The list as it is served now, verified and current. @throws as `ocsp` */
  crl(): Promise<Uint8Array>
  /** The newest checkpoint; null where there is none yet. */
  checkpoint(): Promise<string | null>
  close(): Promise<void>
}

const clockSkewMs = 60_000

export const createRelyingParty = ({ report, trusted: { issuing } }: StoryHome): RelyingParty => {
  const pool = new Pool(report.urls.status, { connections: 16 })
  const fetchBytes = async (path: string, body: Uint8Array | null): Promise<{ status: number; bytes: Uint8Array }> => {
    const answer = await pool.request({
      path,
      method: body === null ? 'GET' : 'POST',
      ...(body === null ? {} : { body: Buffer.from(body), headers: { 'content-type': 'application/ocsp-request' } }),
    })
    return { status: answer.statusCode, bytes: new Uint8Array(await answer.body.arrayBuffer()) }
  }
  const fetchOk = async (path: string, body: Uint8Array | null = null): Promise<Uint8Array> => {
    const { status, bytes } = await fetchBytes(path, body)
    if (status !== 200) throw new Error(`${path}: status ${status}`)
    return bytes
  }
  return {
    ocsp: async serialText => {
      const serial = new Uint8Array(Buffer.from(serialText, 'hex'))
      const { subjectDer, spki } = issuing
      const certId = encodeCertId({ hash: 'sha1', issuerNameDer: subjectDer, issuerKeyBits: spki.keyBytes, serial })
      const response = parseOcspResponse(await fetchOk('/ocsp', encodeOcspRequest({ certIds: [certId] })))
      if (response.status === 'tryLater') return 'unavailable'
      const check = { response, issuer: issuing, serial, at: Date.now(), clockSkewMs, maxAgeMs: null, nonce: null }
      const { status } = checkOcspResponse(check).answer
      return typeof status === 'object' ? 'revoked' : status
    },
    crl: async () => {
      const der = await fetchOk('/crl/issuing-1.crl')
      const crl = parseCrl(der)
      checkSignature(issuing.spki, crl.signatureAlgorithm, crl.tbs, crl.signature)
      if ((crl.nextUpdate ?? 0) <= Date.now()) throw new Error(`list ${crl.crlNumber} is past its end`)
      return der
    },
    checkpoint: async () => {
      const { status, bytes } = await fetchBytes('/log/checkpoint', null)
      if (status === 404) return null
      if (status !== 200) throw new Error(`/log/checkpoint: status ${status}`)
      return new TextDecoder().decode(bytes)
    },
    close: () => pool.destroy(),
  }
}

export interface Watch {
  /** Rounds of questions that were all answered. */
  rounds(): number
  /** What was not answered, or not to be believed; the process that answers may have been away. */
  failures(): readonly string[]
  stop(): Promise<void>
}

/**
 * Asks until it is stopped.
 * @param serials asked about in each round, with the words that are right for them
 */
export const watchStatus = (
  party: RelyingParty,
  evidence: Evidence,
  serials: ReadonlyMap<string, readonly OcspWord[]> = new Map(),
): Watch => {
  const failures: string[] = []
  let rounds = 0
  let stopped = false
  const attempt = async (what: string, work: () => Promise<void>): Promise<void> => {
    try {
      await work()
    } catch (error) {
      failures.push(`${what}: ${messageOf(error)}`)
    }
  }
  const look = async (): Promise<void> => {
    await attempt('crl', async () => {
      const der = await party.crl()
      const last = evidence.crls.at(-1)
      if (last === undefined || Buffer.compare(last, der) !== 0) evidence.crls.push(der)
    })
    await attempt('checkpoint', async () => {
      const note = await party.checkpoint()
      if (note !== null) evidence.checkpoints.add(note)
    })
    for (const [serial, right] of serials)
      await attempt(`ocsp ${serial}`, async () => {
        const word = await party.ocsp(serial)
        if (!right.includes(word)) throw new Error(`said ${word}`)
      })
  }
  const watching = (async () => {
    while (!stopped) {
      const before = failures.length
      await look()
      if (failures.length === before) rounds++
      await delay(20)
    }
  })()
  return {
    rounds: () => rounds,
    failures: () => failures,
    stop: async () => {
      stopped = true
      await watching
    },
  }
}
