// Below which number no list of a CA is taken any more, beside the file of lists, over restarts and for lists that are left out for a while.
// Lists come over plain HTTP: only those that a known CA signed count, or whoever is on the way could name a number that is never reached.
// CAs that were once in the own chain stay known: during a rotation they are the siblings.
import { readFile } from 'node:fs/promises'
import { isAgentCaError } from '../../base/errors.ts'
import { createPublishedFile } from '../../base/published-file.ts'
import { type Certificate, parseCertificate } from '../../pki/certificate.ts'
import type { Crl } from '../../pki/crl.ts'
import { checkSignature } from '../../pki/signature.ts'
import { SidecarError } from './errors.ts'

export interface CrlFloors {
  /**
   * @param issuers CAs that are known otherwise: of the own chain, and those that lead to its roots
   * @returns how to remember these lists: durable once it resolves
   * @throws Error for a list that is older than one that was taken, or not by the CA that it names
   */
  check(lists: readonly Crl[], issuers: readonly Certificate[]): () => Promise<void>
  /** CAs whose lists were taken. */
  issuers(): readonly Certificate[]
}

interface Floor {
  readonly issuer: Certificate
  readonly number: bigint
}

const isSignedBy = ({ spki }: Certificate, crl: Crl): boolean => {
  try {
    checkSignature(spki, crl.signatureAlgorithm, crl.tbs, crl.signature)
    return true
  } catch (error) {
    if (isAgentCaError(error)) return false
    throw error
  }
}

interface Stored {
  readonly version: 1
  readonly floors: readonly { readonly issuer: string; readonly number: string }[]
}

const encode = (floors: Iterable<Floor>): Uint8Array => {
  const stored: Stored = {
    version: 1,
    floors: [...floors].map(({ issuer, number }) => ({
      issuer: Buffer.from(issuer.der).toString('base64'),
      number: String(number),
    })),
  }
  return new TextEncoder().encode(`${JSON.stringify(stored, null, 1)}\n`)
}

const decode = (text: string): readonly Floor[] => {
  const { version, floors } = JSON.parse(text) as Stored
  if (version !== 1) throw new Error(`expected version 1, got ${version}`)
  return floors.map(({ issuer, number }) => ({
    issuer: parseCertificate(new Uint8Array(Buffer.from(issuer, 'base64'))),
    number: BigInt(number),
  }))
}

/** @throws SidecarError `file_malformed` */
const readFloors = async (path: string): Promise<readonly Floor[]> => {
  try {
    return decode(await readFile(path, 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw new SidecarError('file_malformed', `${path} cannot be read: it says which lists are too old`, {
      hint: `rm ${path}; from then on any list counts as new`,
      cause: error,
    })
  }
}

/** @param path of the file of lists @throws SidecarError `file_malformed` */
export const openCrlFloors = async (path: string): Promise<CrlFloors> => {
  const kept = `${path}.numbers`
  const file = createPublishedFile(kept)
  // Owned by this closure: by name of the CA.
  let floors: ReadonlyMap<string, Floor> = new Map(
    (await readFloors(kept)).map(floor => [floor.issuer.comparableSubject, floor]),
  )

  /** null: of a CA that nobody here knows. */
  const issuerOf = (crl: Crl, issuers: readonly Certificate[]): Certificate | null => {
    const known = floors.get(crl.comparableIssuer)
    const named = issuers.filter(({ comparableSubject }) => comparableSubject === crl.comparableIssuer)
    const candidates = known === undefined ? named : [...named, known.issuer]
    if (candidates.length === 0) return null
    const issuer = candidates.find(each => isSignedBy(each, crl))
    if (issuer === undefined) throw new Error('a published list is not by the CA that it names')
    return issuer
  }
  return {
    issuers: () => [...floors.values()].map(({ issuer }) => issuer),
    check: (lists, issuers) => {
      const next = new Map(floors)
      for (const crl of lists) {
        const issuer = issuerOf(crl, issuers)
        if (issuer === null || crl.crlNumber === null) continue
        if (crl.crlNumber < (floors.get(crl.comparableIssuer)?.number ?? 0n))
          throw new Error(`the published lists are older than those in place; should they be, remove ${kept}`)
        if (crl.crlNumber >= (next.get(crl.comparableIssuer)?.number ?? 0n))
          next.set(crl.comparableIssuer, { issuer, number: crl.crlNumber })
      }
      return async () => {
        await file.show(encode(next.values()))
        floors = next
      }
    },
  }
}
